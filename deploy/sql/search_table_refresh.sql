-- Brings the search table up to date with one model's rows. It inserts new rows, updates changed ones, and deletes
-- vanished ones and those of another model. Run it after each run of the pipeline. It updates a row if embedded_at
-- shows that another run wrote it. BigQuery updates an index on the table by itself, and meanwhile searches rows that
-- are not indexed yet by brute force.
--
-- Parameters
--   digest STRING  `model_digest` whose vectors are to be searched, all 64 hex digits
--
-- Fails if image_embeddings has no row of the digest, and then leaves the search table as it is.
-- Before a switch to a model of another dimension, drop the index, and create it again afterwards.
-- Cost: reads key, sha256, model_digest, embedded_at and embedding of this model's rows, and key, model_digest and
-- embedded_at of the search table.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET \
--     --parameter=digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     < deploy/sql/search_table_refresh.sql

MERGE image_embeddings_search AS target
USING (
  SELECT key, sha256, model_digest, embedded_at, embedding
  FROM image_embeddings
  WHERE model_digest = @digest
  UNION ALL
  -- A row that raises the error if the model has no rows. Without it, every row of the search table would be deleted.
  -- WHERE alone does not prevent ERROR's evaluation.
  SELECT
    IF(images = 0, ERROR('no row has this model_digest: expected one of image_embeddings, all 64 hex digits'), ''),
    NULL,
    '',
    NULL,
    NULL
  FROM (SELECT COUNT(*) AS images FROM image_embeddings WHERE model_digest = @digest)
  WHERE images = 0
) AS source
ON target.key = source.key
WHEN MATCHED AND (target.model_digest != source.model_digest OR target.embedded_at != source.embedded_at) THEN
  UPDATE SET
    sha256 = source.sha256,
    model_digest = source.model_digest,
    embedded_at = source.embedded_at,
    embedding = source.embedding
WHEN NOT MATCHED BY TARGET THEN
  INSERT (key, sha256, model_digest, embedded_at, embedding)
  VALUES (source.key, source.sha256, source.model_digest, source.embedded_at, source.embedding)
WHEN NOT MATCHED BY SOURCE THEN
  DELETE;
