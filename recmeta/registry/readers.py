"""Read-only accounts at an MLflow server, made by its administrator.

    MLFLOW_TRACKING_URI=… MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=… \\
    RECMETA_MLFLOW_READERS=endpoint:PASSWORD python -m recmeta.registry.readers

An account that is there gets the password, so that the same command changes it. What accounts may
do with runs and models of others is the server's `default_permission`, which has to be READ; any
account may have some of its own.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from recmeta.errors import UserError

SERVER = "MLFLOW_TRACKING_URI"
ADMINISTRATOR = "MLFLOW_TRACKING_USERNAME"
READERS = "RECMETA_MLFLOW_READERS"
"""Names and passwords, `NAME:PASSWORD`, separated by commas."""


def readers(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the passwords of the accounts, by name.

    Raises:
        UserError: for one without a name or a password.
    """
    found = {}
    for number, one in enumerate(filter(None, env.get(READERS, "").split(",")), 1):
        name, _, password = one.partition(":")
        if not name.strip() or not password:
            raise UserError(f"entry {number} of {READERS} must be NAME:PASSWORD.")
        found[name.strip()] = password
    return found


def server(env: Mapping[str, str] = os.environ) -> str:
    """Return the address of the MLflow server.

    Raises:
        UserError: if it is not given.
    """
    if not env.get(SERVER):
        raise UserError(f"{SERVER} is not set: set it to the address of the MLflow server.")
    return env[SERVER]


def make_accounts(uri: str, accounts: Mapping[str, str]) -> list[str]:
    """Make accounts, or give those that are there their passwords; return who is new.

    Args:
        uri: of the server; the administrator's name and password are in the environment.

    Raises:
        UserError: where the server does not let this login do so.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    client, new = get_app_client("basic-auth", tracking_uri=uri), []
    for name, password in accounts.items():
        try:
            if _is_there(client, name):
                client.update_user_password(name, password)
            else:
                client.create_user(name, password)
                new.append(name)
        except MlflowException as error:
            raise UserError(
                f"the MLflow server {uri} does not let {os.environ.get(ADMINISTRATOR)!r} make the "
                f"account {name!r}, which only its administrator may do: {error.message:.200}"
            ) from error
    return new


def _is_there(client: Any, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_user(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


if __name__ == "__main__":
    try:
        given = readers()
        made = make_accounts(server(), given)
    except UserError as refused:
        sys.stderr.write(f"error: {refused}\n")
        sys.exit(2)
    sys.stdout.write(f"Accounts that read MLflow: {len(given)}; new: {len(made)}.\n")
