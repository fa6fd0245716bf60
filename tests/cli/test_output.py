"""What goes where, and with which exit code: results, progress, mistakes, bugs."""

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_calls import Call
from typer.testing import CliRunner

from recmeta.cli.app import build
from recmeta.cli.command import command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, to_json
from recmeta.errors import UserError
from recmeta.reporting.progress_bars import shown_progress

COMMANDS = ["ingest", "build-tasks", "meta-train", "evaluate", "register", "adapt", "score"]
COMMANDS += ["run", "rollback", "report", "doctor", "data fetch", "data list"]


def app_that(raises: BaseException | None) -> typer.Typer:
    """Return an application whose one command prints, warns of progress and then fails, or not."""

    def work(common: CommonOptions) -> Outcome:
        print("chatter of a library")  # noqa: T201  # that is the point
        with shown_progress() as progress:
            progress("working", 1, 2)
            progress("working", 2, 2)
        if raises is not None:
            raise raises
        return Outcome(
            data={"value": math.nan, "place": (1, 2)}, text="- value: none", note="noted"
        )

    app = typer.Typer()
    app.command()(command(work))
    return app


def test_the_result_alone_is_on_standard_output() -> None:
    result = CliRunner().invoke(app_that(None), ["--json"])
    assert result.stdout == '{"value": null, "place": [1, 2]}\n'
    assert result.stderr.splitlines() == ["chatter of a library", "working: done", "noted"]
    assert CliRunner().invoke(app_that(None), []).stdout == "- value: none\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("scale is wrong"), 2, "error: scale is wrong"),
        (ValueError("inner"), 1, "this should not have happened: ValueError: inner"),
        (ZeroDivisionError("x"), 1, "--debug"),
        (
            PermissionError(13, "Permission denied", "/data"),
            2,
            "refused at '/data' (Permission denied): allow it",
        ),
        (OSError(28, "No space left on device"), 2, "free some space"),
        (ConnectionRefusedError(111, "Connection refused"), 2, "a server cannot be reached"),
        (KeyboardInterrupt(), 130, "goes on from here"),
    ],
)
def test_every_error_is_one_paragraph_and_a_code(
    error: BaseException, code: int, said: str
) -> None:
    result = CliRunner().invoke(app_that(error), ["--json"])
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert f'"exit_code": {code}' in result.stdout.splitlines()[-1]
    debugged = CliRunner().invoke(app_that(error), ["--debug"])
    assert debugged.exit_code == code
    assert type(error).__name__ in debugged.stderr
    assert "Traceback" in debugged.stderr


def test_not_a_number_is_null_at_any_depth() -> None:
    assert to_json({"a": [{"b": math.inf}], "c": (1.5, -math.inf)}) == (
        '{"a": [{"b": null}], "c": [1.5, null]}'
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, recmeta: Call) -> None:
    called = recmeta(*name.split(), "--help")
    assert called.code == 0
    assert "Example" in called.stdout
    assert f"recmeta {name}" in called.stdout
    assert "--workspace" in called.stdout
    assert "--json" in called.stdout


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from recmeta.cli.app import build; build();"
        "heavy = {'torch', 'polars', 'mlflow', 'pyarrow', 'numpy'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command_line = [sys.executable, "-m", "recmeta.cli", "--help"]
    subprocess.run(command_line, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of the processor, not of the clock: other tests run beside this one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_version(recmeta: Call) -> None:
    from importlib.metadata import version

    assert recmeta("--version").stdout.strip() == version("recmeta")


def test_the_workspace_can_come_from_the_environment(tmp_path: Path) -> None:
    environment = {**os.environ, "RECMETA_WORKSPACE": str(tmp_path / "mine")}
    result = CliRunner().invoke(build(), ["report"], env=environment)
    assert result.exit_code == 2
    assert str(tmp_path / "mine") in result.stderr.replace("\n", "")
