-- Which images look most like this one? Approximate, by the vector index where there is one; exact without.
--
-- Parameters
--   key        STRING  the image to start from, as in the column `key`
--   digest     STRING  `model_digest` that the search table was refreshed with, all 64 hex digits
--   neighbours INT64   how many images to return
--
-- Result: key, sha256, distance (cosine, 0 to 2), nearest first; the image itself is left out. Fails where the search
-- table has no vector of the image under the digest, or no row of the digest at all.
-- fraction_lists_to_search, between 0 and 1, trades time for recall. It is part of a literal, which BigQuery asks for:
-- change it here. '{"use_brute_force": true}' in its place gives exact results to compare with.
-- Cost: with the index about that fraction of it; without, the whole of the column embedding.
-- The query must run in the project of the table.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET --parameter=key::gs://bucket/cat.jpg \
--     --parameter=digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=neighbours:INT64:10 < deploy/sql/search.sql

SELECT base.key, base.sha256, distance
FROM
  VECTOR_SEARCH(
    -- Stored columns only and no subquery, so that the filter applies before the search.
    (SELECT key, sha256, embedding FROM image_embeddings_search WHERE model_digest = @digest AND key != @key),
    'embedding',
    (
      SELECT
        IFNULL(
          -- An aggregate, so that an image that is not there gives one row to fail on.
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
