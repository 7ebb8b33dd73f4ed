"""Which model answers: the champion by the registry's alias, followed while requests run."""

import asyncio
import html
import json
import random
import shutil
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from feedback import models_page
from feedback.access import Actor, Role
from feedback.console.models import _behind, earlier
from feedback.serving import Serving
from model.card import load_card, write_card
from model.shipped import STARTER, has_starter
from tests.feedback.conftest import PATIENCE_SECONDS, Make, Service, ask, model_sha256, running, wait_for
from tests.feedback.test_console_pages import logged_in
from tests.feedback.test_service import is_problem
from tests.system.world import words_of
from vigil.reading import model_rows
from workspace import registry
from workspace.errors import ModelFileError
from workspace.files import sha256_file
from workspace.journal import Journal
from workspace.profiles import compose_params
from workspace.promotion import import_champion, override, promote, rollback
from workspace.repository import init_repository
from workspace.settings import Settings, load_settings
from workspace.state import IMPORTED, champion


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated registry database with nothing in it: making one takes MLflow many seconds, copying it none."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "params.yaml").write_text(compose_params("demo"))
    assert registry.find_running(folder, load_settings(folder / "params.yaml")) == []
    return folder / "mlflow.db"


@pytest.fixture
def registered_root(root: Path, empty_registry: Path) -> Path:
    """The workspace with an empty registry."""
    shutil.copy(empty_registry, root / "mlflow.db")
    return root


def make_champion(root: Path, model_dir: Path) -> str:
    """Promote a copy of `model_dir` by the rules of the workspace, in the journal only; returns its sha256."""
    cycle, sha256 = model_dir.name, model_sha256(model_dir)
    leading = champion(Journal(root).events())
    base = leading.model_sha256 if leading else ""
    kept = root / "models" / cycle
    shutil.copytree(model_dir, kept)
    judged = {"challenger_sha256": sha256, "card_sha256": sha256_file(kept / "card.json")}
    verdict = {"verdict": "pass", "results": [{"gate": "all", "verdict": "pass"}], "cycle": cycle, **judged, "base_sha256": base}
    promote(root, kept, expected_champion_sha256=base, verdict=verdict, cycle=cycle, who="test", why="a drill")
    return sha256


def import_starter(root: Path, offset: float) -> float:
    """Make the starter's weights champion as an import under another card; returns its threshold."""
    place, card = root / "models" / IMPORTED, load_card(STARTER)
    shutil.copytree(STARTER, place)
    write_card(place, card.model_copy(update={"cycle": IMPORTED, "threshold": 0.95, "offset": card.offset + offset}))
    import_champion(root, place, model_sha256=card.model_sha256, source_sha256=card.model_sha256, who="ana", why="a start")
    return 0.95


def serves(service: Service, sha256: str) -> bool:
    """Whether /readyz names this model."""
    answer = service.client.get("/readyz")
    return answer.status_code == 200 and answer.json()["model_sha256"] == sha256


def test_when_a_model_was_trained_is_the_journal_s_to_say(root: Path, settings: Settings, models: tuple[Path, Path]) -> None:
    """A card says no time, so that the same training gives the same file; answers and reports say how old a model is."""
    event = Journal(root).append("candidate", cycle=models[0].name, model_sha256=model_sha256(models[0]), path=f"models/{models[0].name}")
    make_champion(root, models[0])
    served = Serving(root, settings)._load(root / "models" / models[0].name, "", models[0].name, 1, "registry")
    assert served.describe()["model_trained_at"] == event.time and not served.engine.card.created


def test_what_the_console_offers_to_go_back_to_is_what_a_rollback_takes(root: Path, models: tuple[Path, Path]) -> None:
    """It offered the version, and a rollback asks for the cycle: every choice but the previous champion was refused."""
    for one in models:
        Journal(root).append("candidate", cycle=one.name, model_sha256=model_sha256(one), path=f"models/{one.name}")
        make_champion(root, one)
    page = models_page.models(root)
    offered = earlier(page["models"])
    assert page["can_roll_back"] and offered == {models[0].name: f"Version 1 ({models[0].name}), the previous champion"}
    rollback(root, who="ada", why="a drill", to=next(iter(offered)))
    leading = champion(Journal(root).events())
    assert leading is not None and leading.cycle == models[0].name
    page = models_page.models(root)  # of the oldest nothing is the previous one; forward again it goes all the same
    assert page["previous"] is None and page["can_roll_back"] and set(earlier(page["models"])) == {models[1].name}
    told = {"cycle": models[0].name, "who": "ada", "at": page["since"]["at"]}
    assert page["since"] == {**told, "why": "a drill", "model_sha256": model_sha256(models[0])}
    assert page["decisions"][0] == {**told, "outcome": "rollback", "reason": "a drill", "batches": []}, "it was in no list of decisions"
    rollback(root, who="ada", why="a slip", to=models[1].name)


def test_the_console_and_the_command_line_say_the_same_of_every_model(root: Path) -> None:
    """Each folded the journal for itself: the candidate of an unfinished cycle was `candidate` in one and `held` in the other."""
    journal = Journal(root)
    journal.append("promotion", cycle=IMPORTED, model_sha256="a" * 64, path="models/imported", previous_sha256="", who="ann", why="imported: from the lab")
    time.sleep(0.002)  # decisions are in order of time, to the millisecond
    journal.append("cycle_opened", cycle="2026-W47.1", judged=[], base_model="a" * 64, fingerprint="f", scheduled=False, week="2026-W47")
    journal.append("candidate", cycle="2026-W47.1", model_sha256="b" * 64, path="models/2026-W47.1")
    page = models_page.models(root)
    told = [(row["cycle"], row["role"], row["reason"]) for row in reversed(page["models"])]
    assert told == [(row["cycle"], row["role"], row["why"]) for row in model_rows(root)]
    assert told == [(IMPORTED, "champion", "imported: from the lab"), ("2026-W47.1", "candidate", "")]
    assert page["challenger"]["cycle"] == "2026-W47.1" and page["champion"]["at"]
    override(root, "accuracy", who="bob", why="a new camera", until=datetime.now(UTC) + timedelta(days=2))
    told = [(one["cycle"], one["outcome"], one["who"], one["reason"].partition(" until ")[0]) for one in models_page.read_models(root)["decisions"]]
    assert told == [
        ("", "override", "bob", "accuracy holds nothing"),
        ("2026-W47.1", "open", "vigil", ""),
        (IMPORTED, "imported", "ann", "imported: from the lab"),
    ]


def test_a_model_whose_operating_points_cannot_be_read_is_refused_before_it_judges_an_upload(
    root: Path, settings: Settings, models: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "imported"
    shutil.copytree(models[0], folder)
    write_card(folder, load_card(folder).model_copy(update={"metrics": {"calibration": {"points": [{"target_fpr": 0.01, "threshold": 1.7}]}}}))
    with pytest.raises(ModelFileError, match="Cannot read the operating points"):
        Serving(root, settings)._load(folder, "", "", 0, "directory")


def test_a_refused_rollback_says_what_the_command_says_and_no_more(make: Make) -> None:
    """The three lines of the command's refusal were the reason of another, and the step that it named was not the next one."""
    app, people = make()
    (answer,) = ask(app, ("POST", "/v1/models/rollback", {"json": {"why": "a drill"}}), key=people["emil"][1])
    assert is_problem(answer, 409)
    assert answer.json()["detail"] == "Nothing was rolled back. there is no model before the champion"
    assert answer.json()["next_step"] == "Run `vigil retrain`."


def test_a_rollback_that_took_place_is_in_the_audit_trail_though_the_command_ends_with_a_refusal(make: Make, models: tuple[Path, Path]) -> None:
    """Where only the registry's aliases could not be set the command ends with 1, though the earlier model answers from then on: the trail did not know."""
    app, people = make()
    service = app.state.service
    for one in models:
        make_champion(service.root, one)
    params = service.root / "params.yaml"
    params.write_text(params.read_text().replace("tracking_uri: sqlite:///mlflow.db", "tracking_uri: sqlite:////dev/null/mlflow.db"))
    assert load_settings(params).registry.tracking_uri == "sqlite:////dev/null/mlflow.db"
    seen = [("POST", "/v1/models/rollback", {"json": {"why": "false alarms", "instead_of": one}}) for one in ("2026-W00.1", models[1].name)]
    stale, answer = ask(app, *seen, key=people["emil"][1])
    assert f"The champion changed meanwhile: now it is {models[1].name}." in is_problem(stale, 409)["detail"]
    assert "Only the registry's aliases are not set" in is_problem(answer, 409)["detail"]
    leading = champion(Journal(service.root).events())
    assert leading is not None and leading.cycle == models[0].name
    trail = service.trail(Actor(people["ada"][0], Role.admin, "ada"), object_="model")["entries"]
    told = {"action": "model.rollback", "detail": {"to": models[0].name, "why": "false alarms"}}
    assert [{name: entry[name] for name in told} for entry in trail] == [told]


def test_a_rollback_that_did_not_end_in_time_is_refused_in_words(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app, people = make()
    monkeypatch.setattr("feedback.rollback.ROLLBACK_SECONDS", 0.01)
    (answer,) = ask(app, ("POST", "/v1/models/rollback", {"json": {"why": "a drill"}}), key=people["emil"][1])
    assert "not known whether the model was changed" in is_problem(answer, 409)["detail"]


def test_without_a_champion_or_a_starter_there_is_no_model_and_it_is_said_why_and_what_to_do(root: Path, settings: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr("feedback.serving.has_starter", lambda: False)

    async def look() -> Serving:
        serving = Serving(root, settings)
        watching = asyncio.create_task(serving.watch())
        await asyncio.wait_for(serving.tried.wait(), PATIENCE_SECONDS)
        watching.cancel()
        return serving

    serving = asyncio.run(look())
    assert serving.current is None and "promoted" in serving.why and "vigil retrain" in serving.next_step
    assert not (root / "mlflow.db").exists(), "looking for a champion makes no registry"


def test_a_fault_of_many_lines_is_told_on_one_and_without_where_the_workspace_lies(root: Path, settings: Settings, monkeypatch: Any) -> None:
    """As Python writes it, the n of a line end stood before the path, which was not seen as one."""

    def broken(*_: object) -> None:
        raise RuntimeError(f"Load failed:\n{root}/models/m/model.onnx\n  is no network")

    monkeypatch.setattr(Serving, "_load", broken)
    serving = Serving(root, settings, root / "models" / "m")
    asyncio.run(serving.watch())
    assert serving.why == "the model could not be loaded: RuntimeError: Load failed: models/m/model.onnx is no network"


def test_while_no_model_answers_uploads_wait_in_the_queue(root: Path, models: tuple[Path, Path], tmp_path: Path, picture: bytes) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models[0], broken)
    (broken / "model.onnx").write_bytes(b"not a model")
    with running(root, "--model-dir", str(broken)) as service:
        answer = wait_for(lambda: service.client.get("/readyz"), lambda answer: "sha256" in answer.text, service.log)
        assert is_problem(answer, 503) and answer.headers["retry-after"]
        waiting = service.detect(picture, wait=1)
        assert waiting.status_code == 202 and waiting.json()["state"] == "queued" and waiting.json()["verdict"] == ""
        assert service.client.get("/v1/models").json()["serving"] is None
    with running(root, "--model-dir", str(models[0])) as service:
        done = wait_for(lambda: service.client.get(f"/v1/detections/{waiting.json()['id']}").json(), lambda found: found["state"] == "done", service.log)
        assert done["model_sha256"] == model_sha256(models[0])


@pytest.mark.slow
@pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")
def test_the_starter_answers_until_a_first_model_is_promoted(registered_root: Path, settings: Settings, models: tuple[Path, Path], picture: bytes) -> None:
    root = registered_root
    with running(root) as service:
        ready = service.until_ready()
        assert (ready["origin"], ready["version"], ready["model_sha256"]) == ("starter", 0, load_card(STARTER).model_sha256)
        assert ready["cycle"] == "", "the cycle in its card is one of the workspace that it was made in"
        body = service.detect(picture).json()
        assert body["origin"] == "starter" and body["model_sha256"] == ready["model_sha256"] and body["frames"] == 1
        threshold = import_starter(root, offset=2.0)  # the same weights under a card of their own: no sha256 tells them apart
        registry.rebuild_aliases(root, settings)
        ready = wait_for(lambda: service.client.get("/readyz").json(), lambda said: said["cycle"] == IMPORTED, service.log)
        assert (ready["threshold"], ready["version"], ready["model_sha256"]) == (threshold, 1, body["model_sha256"]) and ready["origin"] != "starter"
        moved = service.detect(picture + b"\0").json()
        assert moved["threshold"] == threshold and moved["cycle"] == IMPORTED and moved["p_fake"] - body["p_fake"] > 0.1
        for one in (body, moved):  # each by the card that it was judged by
            page = service.client.get(f"/v1/detections/{one['id']}/explanation").json()
            assert page["clip"]["p_fake"] == pytest.approx(one["p_fake"], abs=1e-3), page
        first = make_champion(root, models[0])
        registry.rebuild_aliases(root, settings)
        wait_for(lambda: serves(service, first), bool, service.log)
        assert service.detect(picture).json()["origin"] in ("registry", "journal")


def test_the_alias_decides_and_a_new_champion_takes_over_while_requests_run(
    registered_root: Path, settings: Settings, models: tuple[Path, Path], picture: bytes
) -> None:
    root = registered_root
    first = make_champion(root, models[0])
    registry.rebuild_aliases(root, settings)
    with running(root) as service:
        ready = service.until_ready()
        assert ready["model_sha256"] == first and ready["cycle"] == "2026-W01.1" and ready["version"] == 1 and ready["origin"] == "registry"

        stop, answers = threading.Event(), []

        def keep_asking() -> None:
            while not stop.is_set():
                answers.append(service.detect(picture))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            second = make_champion(root, models[1])
            # The journal has moved on and the alias has not: the alias decides, and the service keeps asking.
            assert service.client.get("/readyz").json()["model_sha256"] == first
            registry.rebuild_aliases(root, settings)
            wait_for(lambda: serves(service, second), bool, service.log)
            seen = len(answers)
            wait_for(lambda: len(answers) > seen + 1, bool, service.log)
        finally:
            stop.set()
            asking.join()
        assert {answer.status_code for answer in answers} == {201}
        served = [answer.json()["model_sha256"] for answer in answers]
        assert served == sorted(served, key=[first, second].index) and set(served) == {first, second}, "one swap, no way back"

        rollback(root, who="test", why="a drill")
        registry.rebuild_aliases(root, settings)
        wait_for(lambda: serves(service, first), bool, service.log)


def test_a_champion_that_cannot_be_loaded_changes_nothing_and_is_named(
    registered_root: Path, settings: Settings, models: tuple[Path, Path], picture: bytes
) -> None:
    """Where the workspace lies was told to anybody, what to do to nobody, and that nothing was changed read as if nothing were wrong."""
    root, damaged = registered_root, f"Refused the model in models/{models[1].name}. model.onnx has sha256"
    first = make_champion(root, models[0])
    registry.rebuild_aliases(root, settings)
    with running(root) as service:
        service.until_ready()
        make_champion(root, models[1])
        second = registry.register(root, settings, Path("models") / models[1].name, cycle=models[1].name)
        with open(root / "models" / models[1].name / "model.onnx", "ab") as handle:
            handle.write(b"x")
        registry.set_aliases(root, settings, {"champion": second.version})
        said = wait_for(lambda: service.client.get("/v1/models").json(), lambda answer: "sha256" in answer["reload_problem"], service.log)
        assert said["serving"]["model_sha256"] == first and service.detect(picture).json()["model_sha256"] == first
        assert _behind(said), "the page called two models the champion"
        told = said["reload_problem"]
        assert told.startswith(f"The champion could not be loaded; {first[:12]} of {models[0].name} still answers: {damaged}")
        log = service.log.read_text()
        assert "Run `vigil doctor --fix`" in told and "Nothing was changed" not in told + log
        assert told.replace(f"in models/{models[1].name}", f"in {root / 'models' / models[1].name}") in log, "the log is for who runs the service"
        ready = httpx.get(f"{service.url}/readyz", trust_env=False).text
        assert "champion could not be loaded" in ready and "sha256 " not in ready
        assert str(root) not in service.by("emil").get("/v1/models").text + ready
        page = models_shown(service)
        assert page.count(told.replace("`", "")) == 1 and "newer" not in page, "it may be an older one, gone back to"
    with running(root) as service:
        answer = wait_for(lambda: httpx.get(f"{service.url}/readyz", trust_env=False), lambda answer: "loaded:" in answer.text, service.log)
        found = is_problem(answer, 503)
        assert found["detail"].startswith(f"No model is ready: the champion could not be loaded: {damaged}") and str(root) not in answer.text
        assert found["next_step"].startswith("Run `vigil doctor --fix`")


def test_a_refused_rollback_names_no_path_of_the_server(make: Make, models: tuple[Path, Path]) -> None:
    app, people = make()
    service = app.state.service
    for one in models:
        make_champion(service.root, one)
    with open(service.root / "models" / models[0].name / "model.onnx", "ab") as handle:
        handle.write(b"x")
    (answer,) = ask(app, ("POST", "/v1/models/rollback", {"json": {"why": "a drill"}}), key=people["emil"][1])
    assert f"Refused the model in models/{models[0].name}." in is_problem(answer, 409)["detail"] and str(service.root) not in answer.text
    with open(service.root / "journal.jsonl", "r+b") as handle:
        handle.write(b"x")
    (answer,) = ask(app, ("GET", "/v1/models", {}), key=people["emil"][1])
    assert "The journal journal.jsonl is broken at line 1." in is_problem(answer, 409)["detail"] and str(service.root) not in answer.text


@pytest.mark.parametrize(
    ("lacking", "next_step"), [("away", "Check `registry.tracking_uri`"), pytest.param("damaged", "Run `vigil doctor --fix`", marks=pytest.mark.slow)]
)
def test_when_the_registry_is_out_of_reach_the_journal_says_what_serves(root: Path, models: tuple[Path, Path], lacking: str, next_step: str) -> None:
    """The console said that a newer model could not be loaded, of which there was none, and the log said nothing."""
    first = make_champion(root, models[0])
    params = (root / "params.yaml").read_text()
    if lacking == "away":
        (root / "params.yaml").write_text(params.replace("sqlite:///mlflow.db", "http://127.0.0.1:9"))
        assert "127.0.0.1:9" in (root / "params.yaml").read_text()
    else:
        (root / "mlflow.db").write_bytes(random.Random(0).randbytes(5000))
    with running(root) as service:
        ready = service.until_ready()
        assert ready["model_sha256"] == first and ready["origin"] == "journal" and ready["reload_problem"] == ""
        told = service.client.get("/v1/models").json()
        assert told["reload_problem"] == "" and str(root) not in told["registry_problem"]
        said = "The model registry does not answer; the journal says which model leads."
        assert told["registry_problem"].startswith(said) and next_step in told["registry_problem"]
        page = models_shown(service)
        assert said in page and next_step.replace("`", "") in page and "could not be loaded" not in page
        answers = service.log.read_text().count("answers again")
        override(root, "accuracy", who="bob", why="a drill", until=datetime.now(UTC) + timedelta(days=2))  # a line in the journal: it is asked anew
        wait_for(lambda: len(registry_asked(service)) > 0, bool, service.log)
        wait_for(lambda: not registry_asked(service), bool, service.log)
        log = service.log.read_text()
    warned = [line for line in log.splitlines() if "the model registry does not answer" in line]
    assert len(warned) == 1 and "WARNING" in warned[0] and next_step in warned[0] and not answers, log


def test_a_service_goes_by_the_settings_that_it_was_started_with_whatever_becomes_of_the_file(root: Path, models: tuple[Path, Path], clip: bytes) -> None:
    """Its processes read params.yaml again when they started: it judged by two sets of settings, and a slip of the pen ended a service that ran."""
    Journal(root).append("candidate", cycle=models[0].name, model_sha256=model_sha256(models[0]), path=f"models/{models[0].name}")
    make_champion(root, models[0])
    params = (root / "params.yaml").read_text().replace("sqlite:///mlflow.db", "http://127.0.0.1:9")
    (root / "params.yaml").write_text(params)
    with running(root) as service:
        worker = psutil.Process(wait_for(lambda: one_of(service, "feedback.work.worker"), bool, service.log)[0])
        before = service.detect(clip, policy="moderation").json()["judged_mode"]
        changed = params.replace("target_fpr: 0.05, abstain: null, mode: fast", "target_fpr: 0.05, abstain: null, mode: dense").replace("sign_up:", "sign_upp:")
        assert changed.count("mode: dense") > params.count("mode: dense") and "sign_upp" in changed
        (root / "params.yaml").write_text(changed)
        worker.kill()
        worker.wait()
        done = service.detect(clip, policy="moderation").json()
        assert (done["state"], done.get("judged_mode"), before) == ("done", "fast", "fast"), service.log.read_text()
        explained = service.client.get(f"/v1/detections/{done['id']}/explanation")
        assert explained.status_code == 200, explained.text
        assert "feedback.sign_upp: there is no such key" in service.client.get("/v1/models").json()["registry_problem"]


def one_of(service: Service, module: str) -> list[int]:
    """The service's processes of this module."""
    return [child.pid for child in psutil.Process(service.process.pid).children(recursive=True) if module in words_of(child)]


def models_shown(service: Service) -> str:
    """The console's page of models as an engineer gets it; the console opens a moment after the service."""
    wait_for(lambda: service.client.get("/console/log-in"), lambda answer: answer.status_code == 200, service.log)
    return html.unescape(logged_in(service, "emil").get("/console/models").text)


def registry_asked(service: Service) -> list[psutil.Process]:
    """The processes in which the service asks the registry which model leads."""
    return [child for child in psutil.Process(service.process.pid).children(recursive=True) if "feedback.champion" in words_of(child)]


@pytest.mark.parametrize("module", ["feedback.api.app", "feedback.work.worker", "feedback.handover", "feedback.champion"])
def test_importing_the_room_brings_no_heavy_package(module: str) -> None:
    import subprocess
    import sys

    from tests.feedback.conftest import environment

    code = f"import sys, {module}; print(sorted({{name.split('.')[0] for name in sys.modules}} & {{'torch', 'mlflow', 'prefect', 'dvc', 'pandas', 'sklearn'}}))"
    assert subprocess.run([sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_of_many_cycles_the_newest_hundred_are_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the 257th cycle on, their reports were more than are remembered: each look at Charts asked git for all of them anew, two processes a cycle."""
    journal, stream, names = Journal(root), [], [f"{2020 + number // 50}-W{number % 50 + 1:02d}.1" for number in range(300)]
    for number, cycle in enumerate(names, 1):
        journal.append("cycle_opened", cycle=cycle, week=cycle[:8], scheduled=False, judged=[], base_model="", fingerprint="")
        journal.append("candidate", cycle=cycle, model_sha256="c" * 64, path=f"models/{cycle}")
        journal.append("cycle_closed", cycle=cycle, outcome="held", reason="it is no better", verdict_sha256="d" * 64)
        stream.append(f"commit refs/heads/other\nmark :{number}\ncommitter a <a@example.org> {number} +0000\ndata 1\n-\n")
        for name, report in (("evaluation", {"overall": {"challenger": {"auc": {"value": number / 1000}}}}), ("verdict", {"cycle": cycle, "results": []})):
            text = json.dumps(report)
            stream.append(f"M 644 inline reports/{name}.json\ndata {len(text)}\n{text}\n")
        stream.append(f"reset refs/tags/vigil/{cycle}\nfrom :{number}\n\n")
    init_repository(root, "")
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input="".join(stream), text=True, check=True)
    found = models_page.figures(root)
    assert [row["cycle"] for row in found] == names[200:] and found[-1]["challenger"]["auc"]["value"] == 0.3
    monkeypatch.setattr(models_page, "git", lambda *_: pytest.fail("git is asked again"))
    assert models_page.figures(root) == found and len(models_page.models(root)["decisions"]) == 300
