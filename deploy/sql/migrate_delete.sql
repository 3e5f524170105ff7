-- Deletes the old model's vectors of images that have one under the new model; others stay. The last step of a
-- migration, after readers were switched: see docs/warehouse.md. BigQuery's time travel can bring the rows back for
-- 7 days by default; after that another run of the old model is the only way.
--
-- Parameters
--   old_digest STRING  `model_digest` that is given up
--   new_digest STRING  `model_digest` that replaced it
--
-- Fails where the two are equal: it would delete everything.
-- Cost: reads key and model_digest of both models' rows, and rewrites the blocks that hold rows of the old one.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET --parameter=old_digest::0fa62269e6ba \
--     --parameter=new_digest::5d1a24b1f0c3 < deploy/sql/migrate_delete.sql

DELETE FROM image_embeddings
WHERE
  model_digest = @old_digest
  AND key IN (SELECT key FROM image_embeddings WHERE model_digest = @new_digest)
  AND IF(@old_digest = @new_digest, ERROR('one model twice: expected old_digest and new_digest to differ'), TRUE);
