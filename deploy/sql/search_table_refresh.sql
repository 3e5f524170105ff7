-- Brings the search table up to date with one model's rows: new and changed ones in, vanished ones and those of another
-- model out. Run it after each run of the pipeline: a row is touched where another run wrote it, which embedded_at
-- tells. An index on the table follows by itself; rows that are not indexed yet are searched by brute force meanwhile.
--
-- Parameters
--   digest STRING  `model_digest` whose vectors are to be searched
--
-- Under a digest that is not in image_embeddings it empties the search table; run again with the right one it fills it.
-- After a switch to a model of another dimension, drop the index first and create it again.
-- Cost: reads key, sha256, model_digest, embedded_at and embedding of this model's rows, and key, model_digest and
-- embedded_at of the search table.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET --parameter=digest::0fa62269e6ba \
--     < deploy/sql/search_table_refresh.sql

MERGE image_embeddings_search AS target
USING (
  SELECT key, sha256, model_digest, embedded_at, embedding
  FROM image_embeddings
  WHERE model_digest = @digest
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
