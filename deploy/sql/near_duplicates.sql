-- Which images are nearly the same? Writes the pairs to a table. near_duplicate_groups.sql makes groups of them.
--
-- Equal bytes (sha256) are paired without a comparison. Different contents are compared only if they share a bucket.
-- Each vector gets `bands` hashes of `band_bits` bits. Each bit tells on which side of a random hyperplane the vector
-- lies (Charikar 2002). Every reported pair is confirmed by its distance, and some pairs are missed:
--   - A bit agrees with probability 1 - angle/pi, angle = ACOS(1 - distance). So a pair is missed with probability
--     (1 - (1 - angle/pi)^band_bits)^bands. docs/warehouse.md has a table.
--   - In a bucket, each content is compared with the next `window` contents by key. So a bucket of n costs n * window,
--     not n^2 / 2. In a larger bucket, pairs that are further apart by key are missed. They may still be in one group.
-- More bands find more pairs. More bits make buckets smaller: 2^band_bits should be well above the number of images.
--
-- Parameters
--   digest    STRING   `model_digest`, all 64 hex digits
--   threshold FLOAT64  cosine distance up to which two images count as nearly the same, 0 to 2
--   bands     INT64    hashes per vector
--   band_bits INT64    bits per hash, at most 62
--   window    INT64    comparisons per content and bucket
--
-- Writes image_embeddings_near_duplicates: key < other_key, distance, same_bytes. Fails if image_embeddings has no row
-- of the digest, and then leaves the pairs as they are.
-- Cost: reads key, sha256, model_digest and embedding of this model's rows; computes images * dimension * bands *
-- band_bits products for the hashes, and at most images * bands * window distances.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET \
--     --parameter=digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=threshold:FLOAT64:0.02 --parameter=bands:INT64:16 --parameter=band_bits:INT64:16 \
--     --parameter=window:INT64:50 < deploy/sql/near_duplicates.sql

CREATE OR REPLACE TABLE image_embeddings_near_duplicates
OPTIONS (description = 'Pairs of nearly equal images, by deploy/sql/near_duplicates.sql')
AS
WITH
  images AS (
    SELECT key, sha256, MIN(key) OVER (PARTITION BY sha256) AS content_key, embedding
    FROM image_embeddings
    WHERE model_digest = @digest
  ),
  contents AS (
    SELECT key, embedding FROM images WHERE key = content_key
  ),
  components AS (
    -- The number of ones among 64 hashed bits, minus 32, is nearly normally distributed. So no direction is preferred.
    SELECT
      band,
      bit,
      position,
      BIT_COUNT(FARM_FINGERPRINT(CAST((band * 64 + bit) * 1000000 + position AS STRING))) - 32 AS component
    FROM (SELECT MAX(ARRAY_LENGTH(embedding)) AS dimension FROM contents)
    CROSS JOIN UNNEST(GENERATE_ARRAY(0, @bands - 1)) AS band
    CROSS JOIN UNNEST(GENERATE_ARRAY(0, @band_bits - 1)) AS bit
    CROSS JOIN UNNEST(GENERATE_ARRAY(0, dimension - 1)) AS position
  ),
  planes AS (
    SELECT band, bit, ARRAY_AGG(component ORDER BY position) AS normal FROM components GROUP BY band, bit
  ),
  sides AS (
    SELECT
      contents.key,
      planes.band,
      planes.bit,
      (SELECT SUM(x * planes.normal[OFFSET(i)]) FROM UNNEST(contents.embedding) AS x WITH OFFSET AS i) > 0 AS above
    FROM contents
    CROSS JOIN planes
  ),
  hashes AS (
    SELECT key, band, SUM(IF(above, 1 << bit, 0)) AS bucket FROM sides GROUP BY key, band
  ),
  placed AS (
    SELECT
      key,
      band,
      bucket,
      ROW_NUMBER() OVER (PARTITION BY band, bucket ORDER BY key) AS place,
      COUNT(*) OVER (PARTITION BY band, bucket) AS places
    FROM hashes
  ),
  candidates AS (
    SELECT DISTINCT a.key, b.key AS other_key
    FROM (
      SELECT key, band, bucket, place + step AS other_place
      FROM placed
      CROSS JOIN UNNEST(GENERATE_ARRAY(1, LEAST(@window, places - place))) AS step
    ) AS a
    JOIN placed AS b ON b.band = a.band AND b.bucket = a.bucket AND b.place = a.other_place
  ),
  compared AS (
    SELECT candidates.key, candidates.other_key, COSINE_DISTANCE(a.embedding, b.embedding) AS distance
    FROM candidates
    JOIN contents AS a ON a.key = candidates.key
    JOIN contents AS b ON b.key = candidates.other_key
  )
SELECT key, other_key, distance, FALSE AS same_bytes FROM compared WHERE distance <= @threshold
UNION ALL
SELECT content_key, key, 0.0, TRUE FROM images WHERE key != content_key
UNION ALL
-- A row that raises the error if the model has no rows. WHERE alone does not prevent ERROR's evaluation.
SELECT
  IF(images = 0, ERROR('no row has this model_digest: expected one of image_embeddings, all 64 hex digits'), ''),
  '',
  0.0,
  FALSE
FROM (SELECT COUNT(*) AS images FROM image_embeddings WHERE model_digest = @digest)
WHERE images = 0;
