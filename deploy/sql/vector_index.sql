-- Creates the vector index on the search table. BigQuery builds it in the background and keeps it up to date.
--
-- IVF is best for one or a few query images at a time. For hundreds of images in one query, try TREE_AH.
-- STORING names the columns that a search filters by and returns. Filters on stored columns apply before the search,
-- and no join back to the table is needed. BigQuery chooses the number of lists.
-- The table needs 5,000 rows, or the statement is refused, and 10 MB, or the index stays empty. All vectors must have
-- one dimension and no NULL. An empty array counts as another dimension. The pipeline's gate lets no such row in.
--
-- Parameters: none.
-- Cost: the statement is billed as a query of the column embedding. Building and refreshing are free below the
-- organization's limit for indexed tables. The index takes paid storage. INFORMATION_SCHEMA.VECTOR_INDEXES shows its
-- coverage_percentage. The vectorSearchStatistics of a search job show whether the index was used.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET < deploy/sql/vector_index.sql

CREATE VECTOR INDEX IF NOT EXISTS image_embeddings_search_index
ON image_embeddings_search(embedding)
STORING(key, sha256, model_digest)
OPTIONS(index_type = 'IVF', distance_type = 'COSINE');
