"""Draw the secrets that docker-compose.yml reads, once: each service gets its own and no other's.

    python deploy/draw_secrets.py [FOLDER]     (default: deploy/secrets)

Needs the standard library alone, so that it runs before anything is installed. Nothing that is
there is overwritten: databases and keys in use go on working.
"""

import base64
import json
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"
POSTGRES = "postgres:5432"
SHOWN = 0o644
"""The mode of files that are mounted into a container, whose user is not ours. The folder
itself is closed to everybody else on the machine."""


def files(draw=secrets.token_urlsafe) -> dict[str, str]:
    """Return the content of each file by its name."""
    airflow_db, mlflow_db, mlflow_admin, mlflow_reader = draw(), draw(), draw(), draw()
    keys = {name: draw() for name in ("shop", "owner", "prometheus")}
    airflow = f"postgresql+psycopg://airflow:{airflow_db}@{POSTGRES}/airflow"
    mlflow = f"postgresql+psycopg://mlflow:{mlflow_db}@{POSTGRES}"
    fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return {
        "postgres.env": _env(
            POSTGRES_USER="postgres",
            POSTGRES_PASSWORD=draw(),
            AIRFLOW_DB_PASSWORD=airflow_db,
            MLFLOW_DB_PASSWORD=mlflow_db,
        ),
        "airflow.env": _env(
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=airflow,
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=airflow,
            AIRFLOW__CORE__FERNET_KEY=fernet,
            AIRFLOW__API_AUTH__JWT_SECRET=draw(),
            AIRFLOW__API__SECRET_KEY=draw(),
        ),
        "pipeline.env": _env(
            MLFLOW_TRACKING_USERNAME="admin",
            MLFLOW_TRACKING_PASSWORD=mlflow_admin,
        ),
        "mlflow.env": _env(
            MLFLOW_BACKEND_STORE_URI=f"{mlflow}/mlflow",
            MLFLOW_AUTH_ADMIN_USERNAME="admin",
            MLFLOW_AUTH_ADMIN_PASSWORD=mlflow_admin,
            MLFLOW_FLASK_SERVER_SECRET_KEY=draw(),
        ),
        "mlflow_auth.ini": "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = {mlflow}/mlflow_auth\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "grant_default_workspace_access = true\n",
        "accounts.env": _env(RECMETA_MLFLOW_READERS=f"endpoint:{mlflow_reader}"),
        "endpoint.env": _env(
            RECMETA_API_KEYS=",".join(f"{n}:{key}" for n, key in keys.items()),
            MLFLOW_TRACKING_USERNAME="endpoint",
            MLFLOW_TRACKING_PASSWORD=mlflow_reader,
        ),
        "prometheus_key": keys["prometheus"],
        "grafana.env": _env(GF_SECURITY_ADMIN_PASSWORD=draw()),
    }


def _env(**values: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def main(arguments: list[str]) -> int:
    """Write the files; return the exit code."""
    folder = Path(arguments[0]) if arguments else FOLDER
    if folder.exists():
        sys.stderr.write(
            f"error: there is {folder} already: keep it, or delete it together with the volumes "
            "whose passwords it has.\n"
        )
        return 2
    folder.mkdir(mode=0o700, parents=True)
    for name, text in files().items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        if not name.endswith(".env"):
            file.chmod(SHOWN)
    sys.stdout.write(json.dumps({"folder": str(folder), "files": sorted(files())}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
