#!/bin/bash
# The databases of Airflow and MLflow, each with a role of its own. The image of PostgreSQL runs this
# once, when its volume is empty.
set -euo pipefail
psql --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --quiet \
  --set=ON_ERROR_STOP=1 \
  --set=airflow="$AIRFLOW_DB_PASSWORD" --set=mlflow="$MLFLOW_DB_PASSWORD" <<'SQL'
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE airflow, mlflow, mlflow_auth FROM PUBLIC;
SQL
