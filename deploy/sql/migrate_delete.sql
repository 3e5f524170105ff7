-- Deletes the old model's vectors of images that have a vector of the new model. The others stay. This is the last step
-- of a migration, after readers were switched: see docs/warehouse.md. BigQuery's time travel can bring the rows back
-- for 7 days by default. After that, only another run of the old model can.
--
-- Parameters
--   old_digest STRING  `model_digest` to delete, all 64 hex digits
--   new_digest STRING  `model_digest` that replaced it, all 64 hex digits
--
-- Fails if the two are equal, because it would delete everything, or if image_embeddings has no row of one of them.
-- Cost: reads key and model_digest of both models' rows, and rewrites the blocks that hold rows of the old one.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET \
--     --parameter=old_digest::0fa62269e6ba84c637ddec57c8d51284c2f69647259f06646d9de172ae463eba \
--     --parameter=new_digest::5d1a24b1f0c360808085f4dd99e5d439f52b86f2938527faf30bd72eb21afbc1 \
--     < deploy/sql/migrate_delete.sql

DELETE FROM image_embeddings
WHERE
  model_digest = @old_digest
  AND key IN (
    SELECT key FROM image_embeddings WHERE model_digest = @new_digest
    UNION ALL
    -- A row that raises the error if one of the models has no rows. WHERE alone does not prevent ERROR's evaluation.
    SELECT
      IF(
        old_images = 0 OR new_images = 0,
        ERROR('old_digest or new_digest has no row: expected two of image_embeddings, all 64 hex digits'),
        ''
      )
    FROM (
      SELECT COUNTIF(model_digest = @old_digest) AS old_images, COUNTIF(model_digest = @new_digest) AS new_images
      FROM image_embeddings
      WHERE model_digest IN (@old_digest, @new_digest)
    )
    WHERE old_images = 0 OR new_images = 0
  )
  AND IF(@old_digest = @new_digest, ERROR('one model twice: expected old_digest and new_digest to differ'), TRUE);
