"""Airflow's pools, by name: without Airflow, for who makes them."""

TABLES_POOL = "recmeta_tables"
"""One slot: who changes a table of the workspace does so alone."""
GPU_POOL = "recmeta_gpu"
"""As many slots as there are GPUs; one where there is none."""
SCORING_POOL = "recmeta_scoring"
"""As many slots as shards of users may be adapted to and scored at once."""
