-- Can the new model take over? Counts the images that have a vector of the old model, of the new model, or of both.
--
-- Parameters
--   old_digest STRING  `model_digest` in use, all 64 hex digits
--   new_digest STRING  `model_digest` that is to replace it, all 64 hex digits
--   examples   INT64   number of keys to show of each gap
--
-- Result: one row:
--   both_models    images with vectors of both models, from the same bytes
--   other_bytes    images with vectors of both models, whose object changed between the two runs
--   old_only, new_only  images with a vector of one model alone
--   old_only_keys, other_bytes_keys  the first of these keys, in order: run the new model again for them
-- Fails if image_embeddings has no row of one of the digests.
-- The new model covers the old one if old_only and other_bytes are 0.
-- Cost: reads key, sha256 and model_digest of both models' rows; no vectors.
--
--   bq query --use_legacy_sql=false --format=prettyjson --dataset_id=PROJECT:DATASET \
--     --parameter=old_digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=new_digest::5d1a24b1f0c360808085f4dd99e5d439f52b86f2938527faf30bd72eb21afbc1 \
--     --parameter=examples:INT64:10 < deploy/sql/migrate_coverage.sql

WITH
  images AS (
    SELECT
      key,
      MAX(IF(model_digest = @old_digest, sha256, NULL)) AS old_sha256,
      MAX(IF(model_digest = @new_digest, sha256, NULL)) AS new_sha256
    FROM image_embeddings
    WHERE model_digest IN (@old_digest, @new_digest)
    GROUP BY key
  )
SELECT
  IF(
    COUNT(old_sha256) > 0 AND COUNT(new_sha256) > 0,
    COUNTIF(old_sha256 = new_sha256),
    ERROR('old_digest or new_digest has no row: expected two of image_embeddings, all 64 hex digits')
  ) AS both_models,
  COUNTIF(old_sha256 != new_sha256) AS other_bytes,
  COUNTIF(new_sha256 IS NULL) AS old_only,
  COUNTIF(old_sha256 IS NULL) AS new_only,
  ARRAY(SELECT key FROM images WHERE new_sha256 IS NULL ORDER BY key LIMIT @examples) AS old_only_keys,
  ARRAY(SELECT key FROM images WHERE old_sha256 != new_sha256 ORDER BY key LIMIT @examples) AS other_bytes_keys
FROM images;
