-- Creates the table for searches with an index: the vectors of one model, one row per key.
--
-- It is a separate table for two reasons. All vectors in an indexed column must have one dimension, and a table with
-- several models does not promise that. A view can neither be indexed nor searched.
--
-- Parameters: none. search_table_refresh.sql fills the table.
-- Cost: none. The filled table stores 8 bytes per dimension and row a second time: 10 GB for a million vectors of 1,280
-- dimensions.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET < deploy/sql/search_table.sql

CREATE TABLE IF NOT EXISTS image_embeddings_search (
  key STRING NOT NULL,
  sha256 STRING,
  model_digest STRING NOT NULL,
  embedded_at TIMESTAMP NOT NULL,
  embedding ARRAY<FLOAT64>
)
CLUSTER BY key
OPTIONS (description = 'Vectors of one model from image_embeddings, for VECTOR_SEARCH');
