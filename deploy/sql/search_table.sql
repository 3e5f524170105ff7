-- Creates the table that is searched with an index: the vectors of one model, one row a key.
--
-- Why a table of its own: all vectors of an indexed column must have one dimension, which a table with several models
-- does not promise, and neither a view can be indexed nor may a search read from one.
--
-- Parameters: none; search_table_refresh.sql fills it.
-- Cost: none. Once filled it holds 8 bytes a dimension and row a second time: 10 GB for a million vectors of 1,280.
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
