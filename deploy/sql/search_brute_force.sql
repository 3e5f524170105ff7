-- Which images look most like this one? Exact: computes the distance to every image under the model.
--
-- Parameters
--   key        STRING  the image to start from, as in the column `key`
--   digest     STRING  `model_digest`, all 64 hex digits; vectors are comparable only under one digest
--   neighbours INT64   number of images to return
--
-- Result: key, sha256, distance (cosine, 0 to 2), nearest first, without the image itself. Fails if the table has no
-- vector of the image under the digest, or no row of the digest at all.
-- Cost: reads the columns key, sha256, model_digest and embedding (8 bytes per dimension) of this model's rows. The
-- table is clustered by model_digest, so the blocks of other models are skipped.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET --parameter=key::gs://bucket/cat.jpg \
--     --parameter=digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=neighbours:INT64:10 < deploy/sql/search_brute_force.sql

WITH
  query AS (
    SELECT
      IFNULL(
        -- An aggregate gives one row even if the image is missing. That row raises the error.
        ANY_VALUE(embedding),
        ERROR('no vector of this image: expected key and digest as in the columns key and model_digest (64 hex digits)')
      ) AS embedding
    FROM image_embeddings
    WHERE model_digest = @digest AND key = @key
  )
SELECT candidate.key, candidate.sha256, COSINE_DISTANCE(candidate.embedding, query.embedding) AS distance
FROM image_embeddings AS candidate
CROSS JOIN query
WHERE candidate.model_digest = @digest AND candidate.key != @key
ORDER BY distance, candidate.key
LIMIT @neighbours;
