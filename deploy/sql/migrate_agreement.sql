-- Do searches give similar results under the new model? For each image of a sample, computes the part of its nearest
-- neighbours under the old model that are also among its nearest neighbours under the new one. Different models never
-- agree fully. Compare the number with that of two models known to be good, and look at the images that agree least.
--
-- Only images with vectors of the same bytes under both models take part, as queries and as neighbours.
--
-- Parameters
--   old_digest STRING  `model_digest` in use, all 64 hex digits
--   new_digest STRING  `model_digest` that is to replace it, all 64 hex digits
--   sample     INT64   number of images to search from; a hash of the key chooses the same ones each time
--   neighbours INT64   number of nearest images to compare
--
-- Result: one row per image of the sample, least agreement first: key, overlap (0 to 1), and mean_overlap of the sample
-- (the same in each row). Fails if image_embeddings has no row of one of the digests.
-- Cost: reads key, sha256, model_digest and embedding of both models' rows; computes 2 * sample * images distances.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET \
--     --parameter=old_digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=new_digest::5d1a24b1f0c360808085f4dd99e5d439f52b86f2938527faf30bd72eb21afbc1 \
--     --parameter=sample:INT64:100 --parameter=neighbours:INT64:10 < deploy/sql/migrate_agreement.sql

WITH
  images AS (
    SELECT
      old_image.key,
      old_image.embedding AS old_embedding,
      new_image.embedding AS new_embedding
    FROM image_embeddings AS old_image
    JOIN image_embeddings AS new_image ON new_image.key = old_image.key AND new_image.sha256 = old_image.sha256
    WHERE old_image.model_digest = @old_digest AND new_image.model_digest = @new_digest
  ),
  queries AS (
    SELECT key, old_embedding, new_embedding FROM images ORDER BY FARM_FINGERPRINT(key), key LIMIT @sample
  ),
  distances AS (
    SELECT
      queries.key,
      images.key AS other_key,
      COSINE_DISTANCE(queries.old_embedding, images.old_embedding) AS old_distance,
      COSINE_DISTANCE(queries.new_embedding, images.new_embedding) AS new_distance
    FROM queries
    JOIN images ON images.key != queries.key
  ),
  ranked AS (
    SELECT
      key,
      ROW_NUMBER() OVER (PARTITION BY key ORDER BY old_distance, other_key) AS old_rank,
      ROW_NUMBER() OVER (PARTITION BY key ORDER BY new_distance, other_key) AS new_rank
    FROM distances
  ),
  overlaps AS (
    SELECT
      key,
      COUNTIF(old_rank <= @neighbours AND new_rank <= @neighbours) / COUNTIF(old_rank <= @neighbours) AS overlap
    FROM ranked
    GROUP BY key
    UNION ALL
    -- A row that raises the error if one of the models has no rows. WHERE alone does not prevent ERROR's evaluation.
    SELECT
      IF(
        old_images = 0 OR new_images = 0,
        ERROR('old_digest or new_digest has no row: expected two of image_embeddings, all 64 hex digits'),
        ''
      ),
      0.0
    FROM (
      SELECT COUNTIF(model_digest = @old_digest) AS old_images, COUNTIF(model_digest = @new_digest) AS new_images
      FROM image_embeddings
      WHERE model_digest IN (@old_digest, @new_digest)
    )
    WHERE old_images = 0 OR new_images = 0
  )
SELECT key, overlap, AVG(overlap) OVER () AS mean_overlap
FROM overlaps
ORDER BY overlap, key;
