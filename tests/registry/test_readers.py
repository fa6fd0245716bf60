"""Accounts that read MLflow: what names them."""

import pytest

from recmeta.errors import UserError
from recmeta.registry.readers import readers, server


def test_readers_are_names_and_passwords() -> None:
    given = "endpoint:a:b, auditor:c,"
    assert readers({"RECMETA_MLFLOW_READERS": given}) == {"endpoint": "a:b", "auditor": "c"}
    assert readers({}) == {}
    for wrong in ("endpoint", "endpoint:", ":secret"):
        with pytest.raises(UserError, match=r"^entry 2 of RECMETA_MLFLOW_READERS must be") as error:
            readers({"RECMETA_MLFLOW_READERS": f"auditor:c,{wrong}"})
        assert "secret" not in str(error.value)


def test_a_server_has_to_be_named() -> None:
    assert server({"MLFLOW_TRACKING_URI": "http://mlflow:5000"}) == "http://mlflow:5000"
    for nothing in ({}, {"MLFLOW_TRACKING_URI": ""}):
        with pytest.raises(UserError, match="MLFLOW_TRACKING_URI is not set"):
            server(nothing)
