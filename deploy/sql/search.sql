-- Which images look most like this one? Approximate with a vector index, exact without one.
--
-- Parameters
--   key        STRING  the image to start from, as in the column `key`
--   digest     STRING  `model_digest` that the search table was refreshed with, all 64 hex digits
--   neighbours INT64   number of images to return
--
-- Result: key, sha256, distance (cosine, 0 to 2), nearest first, without the image itself. Fails if the search table
-- has no vector of the image under the digest, or no row of the digest at all.
-- fraction_lists_to_search, between 0 and 1, trades time for recall. BigQuery requires a literal there, so change it in
-- this file. '{"use_brute_force": true}' in its place gives exact results to compare with.
-- Cost: reads about that fraction of the index. Without an index, reads the whole column embedding.
-- The query must run in the project of the table.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET --parameter=key::gs://bucket/cat.jpg \
--     --parameter=digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=neighbours:INT64:10 < deploy/sql/search.sql

SELECT base.key, base.sha256, distance
FROM
  VECTOR_SEARCH(
    -- Only stored columns and no subquery, so that the filter applies before the search.
    (SELECT key, sha256, embedding FROM image_embeddings_search WHERE model_digest = @digest AND key != @key),
    'embedding',
    (
      SELECT
        IFNULL(
          -- An aggregate gives one row even if the image is missing. That row raises the error.
          ANY_VALUE(embedding),
          ERROR('no vector of this image: expected key and digest as in image_embeddings_search (64 hex digits)')
        ) AS embedding
      FROM image_embeddings_search
      WHERE model_digest = @digest AND key = @key
    ),
    top_k => @neighbours,
    distance_type => 'COSINE',
    options => '{"fraction_lists_to_search": 0.05}'
  )
ORDER BY distance, base.key;
