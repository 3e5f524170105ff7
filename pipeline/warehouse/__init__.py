"""BigQuery: the tables, and publishing a run's rows in them."""
