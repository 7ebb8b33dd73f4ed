"""The files of infra/ fit the project: commands exist, units are complete, the deployment is one that Prefect takes."""

import configparser
import inspect
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main
import yaml

from feedback import audit
from feedback.secret import SHORTEST, VARIABLE, load_secret
from feedback.serve import is_local
from flows.policy import what_starts
from tests.feedback.conftest import Make
from workspace.cycle import due_week
from workspace.journal import Journal
from workspace.profiles import compose_params, project_root
from workspace.registry import damage_of
from workspace.settings import parse_settings

INFRA = project_root() / "infra"


def cli() -> Any:
    """The command line, as its parser sees it."""
    from vigil.main import app

    return typer.main.get_command(app)


def accepts(words: list[str]) -> None:
    """Parse a `vigil` command line without running it; raises a usage error for an unknown command or option."""
    group = cli()
    command = group.commands[words[0]]
    command.make_context(words[0], list(words[1:]), resilient_parsing=False)


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(INFRA / name, encoding="utf-8")
    return parser


def test_compose_services_run_commands_that_exist_and_can_be_watched() -> None:
    page = yaml.safe_load((INFRA / "compose.yaml").read_text())
    services = page["services"]
    assert set(services) == {"serve", "prefect", "schedule"}
    for name, service in services.items():
        assert service["healthcheck"]["test"][:3] == ["CMD", "python", "-c"], name
        compile(service["healthcheck"]["test"][3], name, "exec")
        assert service["security_opt"] == ["no-new-privileges:true"] and service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "Prefect asks nobody who is calling, the service has no TLS"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in page["volumes"] or source.startswith("${"), volume
    for name in ("serve", "schedule"):
        accepts(services[name]["command"])
        assert services[name]["stop_signal"] == "SIGTERM", "it comes to the main process alone, which leaves SIGINT to its stage"
    assert services["prefect"]["entrypoint"] == ["prefect"] and services["prefect"]["command"][:2] == ["server", "start"]
    assert services["schedule"]["depends_on"]["prefect"]["condition"] == "service_healthy"
    assert services["schedule"]["environment"]["PREFECT_API_URL"].startswith("http://prefect:4200/")


def test_every_container_of_vigil_has_the_secret_that_the_service_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it `serve --host 0.0.0.0` ends at once, and keys that `vigil keys add` makes in another container open nothing."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    assert "0.0.0.0" in services["serve"]["command"] and not is_local("0.0.0.0")
    monkeypatch.setenv(VARIABLE, "5" * SHORTEST)
    wanted = load_secret(tmp_path, local=False).key("probe")
    for name in ("serve", "schedule"):
        monkeypatch.delenv(VARIABLE)
        given = services[name].get("environment", {})
        assert {"VIGIL_DATABASE_URL", "AWS_ACCESS_KEY_ID"} <= {variable for variable, value in given.items() if value is None}, (
            "from the shell, where they are set"
        )
        for variable, value in given.items():
            if value is None:
                continue
            # As compose fills it in: from the shell that starts it, which must have set what stands before `:?`.
            monkeypatch.setenv(variable, re.sub(r"\$\{VIGIL_SECRET:\?[^}]+\}", "5" * SHORTEST, value))
        assert load_secret(tmp_path, local=False).key("probe") == wanted, name
    assert f"export {VARIABLE}=" in (INFRA / "README.md").read_text()


def test_the_readme_names_the_variables_that_reach_the_containers() -> None:
    """It said all of AWS; a store that takes none of the newer checksums could not be used, whatever the shell said."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    (told,) = re.findall(r"of your shell (.*?)reach\s+every container", (INFRA / "README.md").read_text(), re.DOTALL)
    for name in ("serve", "schedule"):
        given = {variable for variable, value in services[name]["environment"].items() if value is None}
        assert set(re.findall(r"`(\w+)`", told)) == given >= {"AWS_SESSION_TOKEN", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"}, name


def test_no_proxy_stands_between_a_container_and_those_beside_it() -> None:
    """Docker names one in every container where its settings have one: Prefect's was never healthy, and the scheduler never started."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{server.server_port}"
        environment = {**os.environ, "PREFECT_API_URL": f"http://{here}/api", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
        for name, service in services.items():
            check = re.sub(r"127\.0\.0\.1:\d+", here, service["healthcheck"]["test"][3])
            done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{name}: {done.stderr}"
        server.shutdown()
    asked = urlsplit(services["schedule"]["environment"]["PREFECT_API_URL"]).hostname
    for variable in ("no_proxy", "NO_PROXY"):
        assert asked in services["schedule"]["environment"][variable].partition("$")[0].split(",")


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/healthz", "/api/health") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_parser_used_here_refuses_what_does_not_exist() -> None:
    with pytest.raises(KeyError):
        accepts(["no-such-verb"])
    with pytest.raises(Exception, match="No such option"):
        accepts(["serve", "--no-such-option"])


def test_the_image_installs_by_hash_runs_as_nobody_special_and_holds_what_is_needed() -> None:
    text = (INFRA / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "FROM python:3.11-slim" and "STOPSIGNAL SIGTERM" in lines
    installs = [part for line in lines for part in line.split("&&") if "pip install" in part and "--editable" not in part]
    assert len(installs) == 2 and all("--require-hashes" in part for part in installs)
    assert "--compile-bytecode" in installs[1]
    (compiled,) = [part.split() for line in lines for part in line.split("&&") if "compileall" in part]
    assert lines.index("USER vigil") > max(index for index, line in enumerate(lines) if line.startswith(("RUN", "COPY")))
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert {"vigil", "flows", "pipelines", "model", "media", "workspace", "feedback", "params.yaml", "dvc.yaml", "pyproject.toml"} <= copied
    assert {name for name in copied if (project_root() / name).is_dir()} <= set(compiled), "what may not be written there is compiled at every start"
    ignored = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    for name in copied:
        assert (project_root() / name).exists(), f"{name} is copied and does not exist"
        assert f"!{name}" in ignored, f"{name} is copied and kept from the builder"
    assert not re.search(r"(?i)(password|secret|token)\s*[=:]", text)


def test_the_timer_runs_the_scheduled_cycle_and_catches_up() -> None:
    service, timer = unit("vigil-retrain.service"), unit("vigil-retrain.timer")
    words = service["Service"]["ExecStart"].split()
    assert words[0].endswith("/bin/vigil") and "--scheduled" in words
    accepts(words[1:])
    assert service["Service"]["Type"] == "oneshot" and service["Service"]["User"] == "vigil"
    assert (service["Service"]["KillMode"], service["Service"]["KillSignal"]) == ("mixed", "SIGTERM"), "it comes to the main process alone"
    assert "3" in service["Service"]["SuccessExitStatus"].split(), "held is a finished cycle"
    assert timer["Timer"]["Persistent"] == "true" and timer["Timer"]["Unit"] == "vigil-retrain.service" and timer["Install"]["WantedBy"] == "timers.target"
    assert timer["Timer"]["OnCalendar"] == "hourly", "the week, what starts a cycle early, and what was missed are known to the journal alone"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_itself_accepts_the_units(tmp_path: Path) -> None:
    for name in ("vigil-retrain.service", "vigil-retrain.timer"):
        text = (INFRA / name).read_text().replace("/opt/vigil/.venv/bin/vigil", sys.executable)  # it checks that the program is there
        (tmp_path / name).write_text(text)
    seen = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "vigil-retrain.timer")], capture_output=True, text=True, timeout=60)
    complaints = [line for line in (seen.stdout + seen.stderr).splitlines() if "vigil-retrain" in line]
    assert not complaints


def test_the_deployment_names_a_flow_that_exists_and_the_default_slot() -> None:
    from flows.cycle import weekly_retrain
    from flows.schedule import cron_line

    page = yaml.safe_load((INFRA / "prefect.yaml").read_text())
    (deployment,) = page["deployments"]
    file, _, name = deployment["entrypoint"].partition(":")
    assert (project_root() / file).is_file() and name == weekly_retrain.fn.__name__
    assert set(deployment["parameters"]) <= set(inspect.signature(weekly_retrain.fn).parameters)
    schedule = parse_settings(yaml.safe_load(compose_params("full"))).schedule
    assert deployment["schedules"] == [{"cron": cron_line(schedule), "timezone": schedule.timezone, "active": True}]
    assert deployment["work_pool"]["name"]


def test_the_worker_runs_one_cycle_at_a_time_and_the_server_counts_none() -> None:
    """Prefect keeps a deployment's slot in its database, and its lease in memory: after a power cut the slot stayed taken, and no cycle started again."""
    (deployment,) = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
    assert "concurrency_limit" not in deployment
    text = (INFRA / "README.md").read_text()
    started = re.findall(rf"^ +prefect worker start --pool {deployment['work_pool']['name']}(.*)$", text, re.MULTILINE)
    assert started and all(words.split()[:2] == ["--limit", "1"] for words in started)


def test_what_the_readme_says_starts_a_cycle_at_once_is_a_persons_question(tmp_path: Path) -> None:
    """The deployment asks as a timer does, and `prefect deployment run` asked so too: `Completed`, with nothing done where no week was due."""
    (deployment,) = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
    (told,) = re.findall(rf"`prefect deployment run weekly-retrain/{deployment['name']}(.*?)` starts a cycle at once", (INFRA / "README.md").read_text())
    named = dict(words.split("=") for words in re.findall(r"--param (\S+)", told))
    asked = {**deployment["parameters"], **{name: json.loads(value) for name, value in named.items()}}
    settings, journal = parse_settings(yaml.safe_load(compose_params("full"))), Journal(tmp_path)
    now = datetime.now(UTC)
    journal.append("week_skipped", week=due_week((), settings.schedule, now), why="nothing new")
    assert what_starts(journal.events(), settings, now, scheduled=asked["scheduled"], reviews=0)


def test_the_copy_that_the_readme_has_made_of_a_running_services_database_is_whole(tmp_path: Path, make: Make) -> None:
    """`To back it up copy the whole folder`: of a service that runs that is a file of before and a log of after."""
    app, _ = make()
    database, root = app.state.service.database, app.state.service.root
    (code,) = re.findall(r'^ +python -c "(.*)"$', (INFRA / "README.md").read_text(), re.MULTILINE)
    for _ in range(2):  # a copy that is there already is replaced
        audited = audit.verify(database).entries
        with database.write() as connection:
            audit.append(connection, "system:test", "test", "object")
        subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)
        with closing(sqlite3.connect(root / ".vigil" / "feedback.db.copy")) as copy:
            assert copy.execute("SELECT count(*) FROM audit").fetchone() == (audited + 1,)
        assert damage_of(root / ".vigil" / "feedback.db.copy") == "" and (root / ".vigil" / "feedback.db.copy").stat().st_mode & 0o077 == 0


def test_the_readme_mentions_every_file_of_the_folder() -> None:
    text = (INFRA / "README.md").read_text()
    for path in INFRA.iterdir():
        if path.name not in ("README.md", "Dockerfile.dockerignore"):
            assert f"`{path.name}`" in text, path.name


def test_the_readme_and_the_docs_name_every_route_that_answers_without_a_key(make: Make) -> None:
    """Who opens a service to strangers reads there what they get: /v1/report-key was left out."""
    app, _ = make()
    told = app.openapi()
    open_to_all = {path for path, routes in told["paths"].items() for route in routes.values() if route.get("security", told.get("security")) == []}
    assert {"/healthz", "/v1/report-key"} <= open_to_all and "/v1/models" not in open_to_all
    for path, begins in ((INFRA / "README.md", "Besides log-in and sign-up"), (project_root() / "docs/api.md", "| `/healthz`, `/readyz`")):
        (line,) = [line for line in path.read_text().splitlines() if line.startswith(begins)]
        assert not [route for route in open_to_all - {"/v1/sign-up"} if f"`{route}`" not in line] and "sign-up" in line, path
