"""What the DAGs share. It is light to import: Airflow's SDK and names. The work is in
recmeta.steps."""
