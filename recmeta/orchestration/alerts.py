"""Alerts for operators: a task failed for good, the gate refused a model, a day's run is late.

Each alert is a line in the log and a file in the workspace's folder `alerts`; if the setting
`notifier` names a receiver, one of Airflow's notifiers sends it:

    mail:ops@example.com        SmtpNotifier, by the connection smtp_default
    webhook:CONNECTION          HttpNotifier (apache-airflow-providers-http), by that connection
    {"class": "package.Notifier", "argument": "... {{ alert.text }} ..."}    any other

Arguments are templates; `alert` has the fields of `Alert`, and `subject` and `text`.
"""

import asyncio
import dataclasses
import datetime
import json
import logging
from typing import Any

from airflow.sdk import Context

from recmeta.errors.secrets import masked
from recmeta.orchestration import runbook
from recmeta.orchestration.settings import setting, workspace

logger = logging.getLogger(__name__)
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
HTTP = "airflow.providers.http.notifications.HttpNotifier"
FIELDS = ("kind", "dag", "task", "run", "partition", "what", "do", "link", "at")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that an operator should know."""

    kind: str
    """`failed`, `refused` or `late`."""
    dag: str
    task: str | None
    """None if it is about a whole run."""
    run: str
    partition: str | None
    """The day that the run is about, if it has one."""
    what: str
    """What happened, in whole sentences."""
    do: str
    """The runbook's line."""
    link: str | None = None
    """Where Airflow shows more."""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of the file."""
    at: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    @property
    def subject(self) -> str:
        """One line."""
        what = self.dag if self.task is None else f"{self.dag}.{self.task}"
        day = "" if self.partition is None else f" ({self.partition})"
        said = {"failed": "failed for good", "late": "is late", "refused": "refused a model"}
        return f"recmeta: {what} {said[self.kind]}{day}"

    @property
    def text(self) -> str:
        """All of it, for a person."""
        lines = [f"{self.subject}.", "", self.what, "", f"What to do: {self.do}"]
        return "\n".join([*lines, *([] if self.link is None else ["", self.link])])


def tell(alert: Alert) -> None:
    """Write an alert and have the notifier send it. Errors here are not raised, since the alert is
    about something else."""
    logger.error("%s\nWhat to do: %s", alert.what, alert.do)
    name = f"{alert.kind}-{alert.dag}-{alert.run}-{alert.task}-{alert.details.get('map_index', -1)}"
    plain = "".join(c if c.isalnum() else "-" for c in name)
    try:
        kept = {f: getattr(alert, f) for f in FIELDS} | alert.details
        (workspace(alert.dag) / "alerts").write_json(f"{plain}.json", kept)
    except Exception as error:  # whatever it is, the notifier is to be reached
        logger.warning("the alert could not be written to the workspace: %s", masked(str(error)))
    try:
        notifier = notifier_of(setting("notifier", alert.dag))
        if notifier is not None:
            fields = {name: getattr(alert, name) for name in (*FIELDS, "subject", "text")}
            notifier({"alert": fields})
            logger.info("%s was notified.", type(notifier).__name__)
    except Exception as error:
        logger.error("nobody could be notified of this: %s", masked(str(error)))


def notifier_of(text: str | None) -> Any:
    """Return the notifier that the setting `notifier` names; None if it is not set.

    Raises:
        UserError: if it cannot be understood.
    """
    from airflow.sdk.module_loading import import_string

    from recmeta.errors import UserError

    if text is None:
        return None
    scheme, _, rest = text.partition(":")
    if scheme == "mail":
        arguments: dict[str, Any] = {"class": SMTP, "to": rest.split(",")}
        arguments["subject"] = "{{ alert.subject }}"
        arguments["html_content"] = "<pre>{{ alert.text | e }}</pre>"
    elif scheme == "webhook":
        arguments = {"class": HTTP, "http_conn_id": rest}
        fields = {name: f"{{{{ alert.{name} or '' }}}}" for name in FIELDS}
        arguments["json"] = {"text": "{{ alert.text }}", **fields}
    else:
        try:
            arguments = json.loads(text)
            arguments["class"] = str(arguments["class"])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                "the setting notifier must be mail:ADDRESS, webhook:CONNECTION, or a JSON object "
                'with the path of a notifier as its "class".'
            ) from error
    made = import_string(arguments.pop("class"))
    return made(**arguments)


def failed(context: Context, what: str) -> Alert:
    """Return the alert for a task that failed for good."""
    ti, run = context["ti"], context["dag_run"]
    return Alert(
        kind="failed",
        dag=ti.dag_id,
        task=ti.task_id,
        run=run.run_id,
        partition=run.partition_key,
        what=what,
        do=runbook.FAILED.get(ti.task_id, "Its log says more."),
        link=getattr(ti, "log_url", None),
        details={"map_index": ti.map_index, "try": ti.try_number, "error": what},
    )


def refused(context: Context, version: str, reasons: list[str]) -> Alert:
    """Return the alert for a model that the gate refused."""
    ti, run = context["ti"], context["dag_run"]
    why = " ".join(reasons) if reasons else "It gave no reasons."
    return Alert(
        kind="refused",
        dag=ti.dag_id,
        task="gate",
        run=run.run_id,
        partition=run.partition_key,
        what=f"The gate refused the model, which is version {version} and the challenger. {why}",
        do=runbook.REFUSED,
        link=getattr(ti, "log_url", None),
        details={"model_version": version, "reasons": reasons},
    )


async def late(context: Any) -> None:
    """Send the alert for a run that has not ended by its deadline. Airflow calls this in the
    triggerer, since a worker may not read the settings for it.

    Args:
        context: what Airflow knows of the run, as JSON.
    """
    run = context["dag_run"]
    alert = Alert(
        kind="late",
        dag=run["dag_id"],
        task=None,
        run=run.get("dag_run_id") or run["run_id"],
        partition=run.get("partition_key"),
        what=f"The run was to have ended by {context['deadline']['deadline_time']}.",
        do=runbook.LATE,
    )
    await asyncio.to_thread(tell, alert)  # others wait in the triggerer, too
