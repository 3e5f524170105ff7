-- Do searches answer alike under the new model? For a sample of images, the part of the nearest neighbours under the
-- old model that are also among the nearest under the new one. Different models never agree fully: compare the number
-- with that of two models known to be good, and look at the images that agree least.
--
-- Only images that have vectors of the same bytes under both models take part, as queries and as neighbours.
--
-- Parameters
--   old_digest STRING  `model_digest` in use
--   new_digest STRING  `model_digest` that is to replace it
--   sample     INT64   how many images to search from; chosen by a hash of the key, the same ones each time
--   neighbours INT64   how many nearest images are compared
--
-- Result: one row an image of the sample: key, overlap (0 to 1), mean_overlap (of the sample, the same in each row);
-- those that agree least first.
-- Cost: reads key, sha256, model_digest and embedding of both models' rows; computes 2 * sample * images distances.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET --parameter=old_digest::0fa62269e6ba \
--     --parameter=new_digest::5d1a24b1f0c3 --parameter=sample:INT64:100 --parameter=neighbours:INT64:10 \
--     < deploy/sql/migrate_agreement.sql

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
  )
SELECT key, overlap, AVG(overlap) OVER () AS mean_overlap
FROM overlaps
ORDER BY overlap, key;
