"""What operators are told, by a real letter and a real webhook."""

import importlib.util
import json
from mailbox import mailbox, text_of, webhook
from pathlib import Path

import pytest
from airflow_process import AirflowProcess

TOLD = """
import asyncio
from types import SimpleNamespace as Some
from recmeta.orchestration import alerts
ti = Some(dag_id="shop.meta_train", task_id="register-challenger", log_url="http://airflow/log")
run = Some(run_id="asset__1", partition_key="2026-01-31")
alerts.tell(alerts.refused({"ti": ti, "dag_run": run}, "7", ["{{ 7 * 6 }} <b>is worse</b>."]))
asyncio.run(alerts.late({
    "dag_run": {"dag_id": "shop.build_tasks", "dag_run_id": "scheduled__2", "run_id": "x",
                "partition_key": "2026-02-01"},
    "deadline": {"id": "d", "deadline_time": "2026-02-02T06:00:00Z"},
}))
answer("told")
"""
GONE = """
import os
from recmeta.errors import UserError
from recmeta.orchestration.alerts import notifier_of
os.environ["AIRFLOW_CONN_SMTP_DEFAULT"] = %r
asyncio.run(alerts.late({
    "dag_run": {"dag_id": "shop.build_tasks", "run_id": "another", "partition_key": None},
    "deadline": {"id": "d", "deadline_time": "2026-02-02T06:00:00Z"},
}))
found = [str(notifier_of(None))]
for text in ("ops@example.com", '{"to": "x"}', "[1]"):
    try:
        notifier_of(text)
    except UserError as error:
        found.append(str(error))
answer(found)
"""


def test_refusals_and_delays_are_told_by_mail_and_kept(
    airflow: AirflowProcess, tmp_path: Path
) -> None:
    with mailbox() as (gone, _):
        pass  # a mail server that does not answer fails nothing, and its alert is kept
    with mailbox() as (settings, letters):
        script = TOLD + GONE % gone["AIRFLOW_CONN_SMTP_DEFAULT"]
        nobody, *messages = airflow.ask(script, RECMETA_SHOP_WORKSPACE=str(tmp_path), **settings)
    assert nobody == "None"
    assert len(messages) == 3
    assert all("must be mail:ADDRESS, webhook:CONNECTION" in message for message in messages)
    assert [letter["Subject"] for letter in letters] == [
        "recmeta: shop.meta_train.gate refused a model (2026-01-31)",
        "recmeta: shop.build_tasks is late (2026-02-01)",
    ]
    refusal, delay = map(text_of, letters)
    assert letters[0]["To"] == "ops@example.com"
    assert "version 7 and the challenger. {{ 7 * 6 }} &lt;b&gt;is worse&lt;/b&gt;." in refusal
    assert "What to do: Nothing need be done: the champion stays." in refusal
    assert "http://airflow/log" in refusal
    assert "was to have ended by 2026-02-02T06:00:00Z" in delay
    assert "What to do: Open the run" in delay
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "alerts").iterdir())]
    assert [(alert["kind"], alert["dag"]) for alert in kept] == [
        ("late", "shop.build_tasks"),
        ("late", "shop.build_tasks"),
        ("refused", "shop.meta_train"),
    ]
    assert kept[2]["reasons"] == ["{{ 7 * 6 }} <b>is worse</b>."]
    assert kept[2]["model_version"] == "7"


@pytest.mark.skipif(
    importlib.util.find_spec("airflow.providers.http") is None,
    reason="apache-airflow-providers-http is not installed",
)
def test_a_webhook_gets_the_alert_as_json(airflow: AirflowProcess, tmp_path: Path) -> None:
    with webhook() as (settings, posted):
        airflow.ask(TOLD, RECMETA_SHOP_WORKSPACE=str(tmp_path), **settings)
    refusal, delay = posted
    assert refusal["path"] == "/hook"
    assert refusal["text"].startswith("recmeta: shop.meta_train.gate refused a model (2026-01-31).")
    assert (refusal["kind"], refusal["dag"], refusal["partition"]) == (
        "refused",
        "shop.meta_train",
        "2026-01-31",
    )
    assert (delay["kind"], delay["task"], delay["link"]) == ("late", "", "")
