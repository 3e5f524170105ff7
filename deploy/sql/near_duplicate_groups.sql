-- Which images belong together? Makes groups of the pairs that near_duplicates.sql wrote. Two images are in one group
-- if a chain of pairs connects them. So the ends of a long chain may be further apart than the threshold. The least key
-- of a group is its name.
--
-- Parameters: none.
-- Writes image_embeddings_near_duplicate_groups and returns it, largest groups first: group_key, key, images (number in
-- the group), same_bytes (whether another image of the group has the same bytes).
-- Cost: reads the table of pairs, which holds no vectors, in each of a few rounds. A round passes the least name one
-- step on, and then takes the name of that name. So the rounds mostly grow with the logarithm of the longest chain.
--
--   bq query --use_legacy_sql=false --dataset_id=PROJECT:DATASET < deploy/sql/near_duplicate_groups.sql

DECLARE changed INT64 DEFAULT 1;

CREATE OR REPLACE TABLE image_embeddings_near_duplicate_groups
OPTIONS (description = 'Groups of nearly equal images, by deploy/sql/near_duplicate_groups.sql')
AS
SELECT key, key AS group_key, LOGICAL_OR(same_bytes) AS same_bytes
FROM (
  SELECT key, same_bytes FROM image_embeddings_near_duplicates
  UNION ALL
  SELECT other_key, same_bytes FROM image_embeddings_near_duplicates
)
GROUP BY key;

WHILE changed > 0 DO
  CREATE OR REPLACE TEMP TABLE better_names AS
  SELECT node.key, MIN(name.group_key) AS group_key
  FROM image_embeddings_near_duplicate_groups AS node
  JOIN (
    SELECT key, other_key FROM image_embeddings_near_duplicates
    UNION ALL
    SELECT other_key, key FROM image_embeddings_near_duplicates
  ) AS edge ON edge.key = node.key
  JOIN image_embeddings_near_duplicate_groups AS neighbour ON neighbour.key = edge.other_key
  JOIN image_embeddings_near_duplicate_groups AS name ON name.key = neighbour.group_key
  WHERE name.group_key < node.group_key
  GROUP BY node.key;

  SET changed = (SELECT COUNT(*) FROM better_names);

  UPDATE image_embeddings_near_duplicate_groups AS node
  SET group_key = better_names.group_key
  FROM better_names
  WHERE better_names.key = node.key;
END WHILE;

SELECT group_key, key, COUNT(*) OVER (PARTITION BY group_key) AS images, same_bytes
FROM image_embeddings_near_duplicate_groups
ORDER BY images DESC, group_key, key;
