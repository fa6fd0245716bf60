"""What the DAGs share. Light to import: Airflow's SDK and names; the work is in recmeta.steps."""
