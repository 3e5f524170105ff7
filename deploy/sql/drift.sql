-- Do the images of later runs differ from earlier ones? Compares two parts of the table under one model.
--
-- The table keeps one row per key, written by the last run that changed it. So the two parts are:
--   before: rows last written by before_run, or by a run that finished earlier
--   after:  rows last written by a run that finished later, up to and including after_run. These are new keys and
--           changed contents. The table cannot tell the two apart.
-- Rows of runs after after_run are in neither part. Rows of a run that is not in image_embeddings_runs are counted
-- separately.
--
-- Parameters
--   digest     STRING  `model_digest`, all 64 hex digits
--   before_run STRING  `run_id` of the last run of the first part
--   after_run  STRING  `run_id` of the last run of the second part
--
-- Result: one row:
--   rows_before, rows_after, rows_of_unknown_runs
--   listed_before, listed_after            objects that each of the two runs listed; the difference is the number of
--                                          new objects minus the number of vanished ones
--   failure_rate_before, failure_rate_after  failure rates of the two runs, 0 to 1
--   cosine_of_means                        cosine of the two mean vectors; 1 if nothing moved
--   distances_before, distances_after      cosine distances to the mean before: least, quartiles, largest (approximate)
-- Fails if a run is not in image_embeddings_runs, or if image_embeddings has no row of the digest.
-- Cost: reads model_digest, run_id and embedding of this model's rows, and image_embeddings_runs.
--
--   bq query --use_legacy_sql=false --format=prettyjson --dataset_id=PROJECT:DATASET \
--     --parameter=digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=before_run::scheduled__2026-11-01 --parameter=after_run::scheduled__2026-11-08 < deploy/sql/drift.sql

WITH
  runs AS (
    SELECT run_id, MAX(finished_at) AS finished_at FROM image_embeddings_runs GROUP BY run_id
  ),
  bounds AS (
    SELECT
      IFNULL(
        MAX(IF(run_id = @before_run, finished_at, NULL)),
        ERROR('no such run: expected before_run as in image_embeddings_runs.run_id')
      ) AS before_end,
      IFNULL(
        MAX(IF(run_id = @after_run, finished_at, NULL)),
        ERROR('no such run: expected after_run as in image_embeddings_runs.run_id')
      ) AS after_end
    FROM runs
  ),
  images AS (
    SELECT
      CASE
        WHEN runs.finished_at IS NULL THEN 'unknown'
        WHEN runs.finished_at <= bounds.before_end THEN 'before'
        WHEN runs.finished_at <= bounds.after_end THEN 'after'
        ELSE 'later'
      END AS part,
      image.embedding
    FROM image_embeddings AS image
    CROSS JOIN bounds
    LEFT JOIN runs ON runs.run_id = image.run_id
    WHERE image.model_digest = @digest
  ),
  means AS (
    SELECT part, ARRAY_AGG(mean ORDER BY position) AS mean
    FROM (
      SELECT part, i AS position, AVG(x) AS mean
      FROM images
      CROSS JOIN UNNEST(embedding) AS x WITH OFFSET AS i
      GROUP BY part, position
    )
    GROUP BY part
  ),
  distances AS (
    SELECT images.part, COSINE_DISTANCE(images.embedding, means.mean) AS distance
    FROM images
    CROSS JOIN means
    WHERE means.part = 'before' AND images.part IN ('before', 'after')
  )
SELECT
  (
    SELECT
      IF(
        COUNT(*) > 0,
        COUNTIF(part = 'before'),
        ERROR('no row has this model_digest: expected one of image_embeddings, all 64 hex digits')
      )
    FROM images
  ) AS rows_before,
  (SELECT COUNTIF(part = 'after') FROM images) AS rows_after,
  (SELECT COUNTIF(part = 'unknown') FROM images) AS rows_of_unknown_runs,
  (SELECT MAX(listed) FROM image_embeddings_runs WHERE run_id = @before_run) AS listed_before,
  (SELECT MAX(listed) FROM image_embeddings_runs WHERE run_id = @after_run) AS listed_after,
  (SELECT MAX(failure_rate) FROM image_embeddings_runs WHERE run_id = @before_run) AS failure_rate_before,
  (SELECT MAX(failure_rate) FROM image_embeddings_runs WHERE run_id = @after_run) AS failure_rate_after,
  (
    SELECT 1 - COSINE_DISTANCE(a.mean, b.mean)
    FROM means AS a
    CROSS JOIN means AS b
    WHERE a.part = 'before' AND b.part = 'after'
  ) AS cosine_of_means,
  (SELECT APPROX_QUANTILES(distance, 4) FROM distances WHERE part = 'before') AS distances_before,
  (SELECT APPROX_QUANTILES(distance, 4) FROM distances WHERE part = 'after') AS distances_after;
