-- Creates the vector index on the search table. BigQuery builds it in the background and keeps it up to date.
--
-- IVF: best for one or a few query images at a time; for hundreds of them in one query TREE_AH is the one to try.
-- STORING holds what a search filters by and returns: filters on stored columns apply before the search, and the join
-- back to the table is spared. The number of lists is BigQuery's choice.
-- Needs 5,000 rows, or the statement is refused, and 10 MB, or the index stays empty. All vectors must have one
-- dimension, without NULL, and an empty array counts as another dimension: the pipeline's quality gate lets no such row
-- in.
--
-- Parameters: none.
-- Cost: the statement is billed as a query of the column embedding; building and refreshing are free below the
-- organization's limit for indexed tables; the index takes paid storage. INFORMATION_SCHEMA.VECTOR_INDEXES shows its
-- coverage_percentage, and a search job's vectorSearchStatistics whether it was used.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET < deploy/sql/vector_index.sql

CREATE VECTOR INDEX IF NOT EXISTS image_embeddings_search_index
ON image_embeddings_search(embedding)
STORING(key, sha256, model_digest)
OPTIONS(index_type = 'IVF', distance_type = 'COSINE');
