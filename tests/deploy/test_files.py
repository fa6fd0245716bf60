"""What can be said of deploy/ without a container engine: its files fit each other and the code."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from deployment import DEPLOY, OURS, ROOT, compose, env_of, files_of_secrets, stages

from recmeta.orchestration import shape

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def test_secrets_are_drawn_once_and_closed(tmp_path: Path) -> None:
    command = [sys.executable, str(DEPLOY / "draw_secrets.py"), str(tmp_path / "secrets")]
    subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        mounted = file.suffix != ".env"
        assert stat.S_IMODE(file.stat().st_mode) == (0o644 if mounted else 0o600), file
    before = {file: file.read_text() for file in folder.iterdir()}
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: there is {folder} already")
    assert {file: file.read_text() for file in folder.iterdir()} == before


def test_each_service_gets_the_secrets_that_fit_those_of_the_others() -> None:
    files = files_of_secrets()
    env = {name: env_of(text) for name, text in files.items() if name.endswith(".env")}
    passwords = env["postgres.env"]
    assert f":{passwords['AIRFLOW_DB_PASSWORD']}@postgres:5432/airflow" in files["airflow.env"]
    assert f":{passwords['MLFLOW_DB_PASSWORD']}@postgres:5432/mlflow\n" in files["mlflow.env"]
    assert f":{passwords['MLFLOW_DB_PASSWORD']}@postgres" in files["mlflow_auth.ini"]
    assert (
        env["pipeline.env"]["MLFLOW_TRACKING_PASSWORD"]
        == env["mlflow.env"]["MLFLOW_AUTH_ADMIN_PASSWORD"]
    )
    reader = env["endpoint.env"]
    assert env["accounts.env"] == {
        "RECMETA_MLFLOW_READERS": f"endpoint:{reader['MLFLOW_TRACKING_PASSWORD']}"
    }
    assert reader["MLFLOW_TRACKING_PASSWORD"] != env["pipeline.env"]["MLFLOW_TRACKING_PASSWORD"]
    assert compose()["services"]["endpoint"]["env_file"] == ["secrets/endpoint.env"]
    assert "default_permission = READ\n" in files["mlflow_auth.ini"]
    assert f"prometheus:{files['prometheus_key']}" in env["endpoint.env"]["RECMETA_API_KEYS"]
    drawn = [v for values in env.values() for v in values.values()]
    assert all(drawn)
    assert files_of_secrets()["grafana.env"] != files["grafana.env"]
    used = {Path(f).name for s in compose()["services"].values() for f in s.get("env_file", [])}
    used |= {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert used == set(files)


def test_what_compose_names_is_there() -> None:
    found = compose()
    targets = stages()
    for name, service in found["services"].items():
        for needed, how in dict.fromkeys(service.get("depends_on", {})).items():
            assert needed in found["services"], (name, how)
        conditions = service.get("depends_on", {})
        for needed, how in conditions.items() if isinstance(conditions, dict) else ():
            other = found["services"][needed]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in other, needed
            else:
                assert other["restart"] == "no", needed
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if re.match(r"[a-z]", source):
                assert source in found["volumes"], (name, source)
            elif source.startswith("./"):
                assert (DEPLOY / source).exists(), (name, source)
        for secret in service.get("secrets", []):
            assert secret in found["secrets"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)
        if service["image"] in OURS:
            assert service["build"]["target"] in targets
            assert service["cap_drop"] == ["ALL"]
        else:
            assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"])


def test_every_setting_that_is_handed_on_is_one() -> None:
    code = "".join(p.read_text() for p in (ROOT / "recmeta" / "orchestration").glob("*.py"))
    values = (DEPLOY / "helm" / "airflow-values.yaml").read_text()
    named = {n for n in compose()["x-airflow-settings"] if n.startswith("RECMETA_")}
    named |= set(re.findall(r"name: (RECMETA_[A-Z_]+)", values))
    assert {shape.TIME_LIMITS, shape.LATE_AFTER, "RECMETA_NOTIFIER"} <= named
    for name in named:
        assert name in code or f'"{name.removeprefix("RECMETA_").lower()}"' in code, name


def test_the_images_are_made_of_what_is_there_and_run_as_nobody_in_particular() -> None:
    found = stages()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name, instructions in found.items():
        for instruction, rest in instructions:
            if instruction == "COPY" and "--from" not in rest:
                *sources, _ = (part for part in rest.split() if not part.startswith("--"))
                for source in sources:
                    assert (ROOT / source).exists(), source
                    assert f"!{source.removeprefix('./')}" in ignored, source
            for extra in re.findall(r"'\.\[(\w+)\]'", rest):
                assert extra in extras["optional-dependencies"], extra
                assert "--constraint constraints.txt" in rest
        users = [rest for instruction, rest in instructions if instruction == "USER"]
        if name in ("endpoint", "pipeline"):
            assert users == ["10001:0"], name
    health = dict(found["endpoint"])["HEALTHCHECK"]
    assert "/livez" in health
    assert ignored[1] == "*"


def test_helms_values_hold_no_secret_and_run_the_same_image() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "airflow-values.yaml").read_text())
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert values["airflowVersion"] == pins["apache-airflow"]
    assert (values["uid"], values["gid"]) == (10001, 0)
    assert values["executor"] == compose()["x-airflow-settings"]["AIRFLOW__CORE__EXECUTOR"]
    secret = {entry["envName"] for entry in values["secret"]}
    assert not secret & {entry["name"] for entry in values["env"]}
    init = " ".join(compose()["services"]["airflow-init"]["command"])
    for command in values["migrateDatabaseJob"]["args"][-1].split("&&"):
        assert command.strip() in init


def test_every_alert_has_a_line_in_the_runbook() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    (group,) = rules["groups"]
    for rule in group["rules"]:
        anchor = rule["alert"].lower()
        assert rule["annotations"]["runbook"] == f"docs/deploy.md#{anchor}"
        assert re.search(rf"(?mi)^#+ {anchor}$", PAGE), anchor
        assert rule["labels"]["severity"] in ("page", "ticket")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [_tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_prometheus_takes_its_files_and_the_alerts_go_off() -> None:
    promtool = _tool("promtool")
    config = str(DEPLOY / "prometheus" / "prometheus.yml")
    for arguments in (
        ["check", "config", "--syntax-only", config],
        ["test", "rules", str(Path(__file__).parent / "alerts.test.yml")],
    ):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_can_be_run() -> None:
    script = DEPLOY / "postgres" / "databases.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
