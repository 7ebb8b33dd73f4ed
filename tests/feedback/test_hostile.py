"""Bad input at a small size: the drill of benchmarks/hostile.py, and requests made from the API's own description."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile import Target, hand_made, mutated, run, workspace, wrong


def test_nothing_that_a_stranger_sends_brings_the_service_down(tmp_path: Path, models: tuple[Path, Path]) -> None:
    found = run(workspace(tmp_path / "workspace"), models[0], 240, seed=3)
    assert not wrong(found), found
    assert found["verdicts"]["none"] > 50, "hardly anything was refused as media: the corpus is not hostile"
    assert sum(number for status, number in found["statuses"].items() if status.startswith("4")) > 50


def test_the_drill_notices_a_service_that_fails(tmp_path: Path) -> None:
    calm = {name: {"pid": 1, "mb": 100.0, "files": 20} for name in ("service", "worker")}
    row: dict[str, Any] = {
        "server_errors": 0,
        "tracebacks": 0,
        "exit_code": 0,
        "alive": True,
        "judges_still": True,
        "same_processes": True,
        "verdicts": {},
        "states": [calm] * 4,
    }
    assert wrong(row) == []
    grown = {**calm, "worker": {"pid": 1, "mb": 200.0, "files": 40}}
    assert wrong({**row, "states": [calm, calm, calm, grown]}) == ["worker leaks files", "worker leaks memory"]
    assert wrong({**row, "server_errors": 1, "alive": False, "verdicts": {"stuck": 1}}) == ["server_errors", "alive", "stuck"]


def test_the_corpus_is_repeatable() -> None:
    import random

    content = bytes(range(256)) * 20
    assert [mutated(content, random.Random(seed)) for seed in range(50)] == [mutated(content, random.Random(seed)) for seed in range(50)]
    assert len({mutated(content, random.Random(seed)) for seed in range(50)}) > 45 and len(set(hand_made())) == len(hand_made())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]) -> Iterator[Target]:
    """A service that knows nobody but an engineer."""
    target = Target(workspace(tmp_path_factory.mktemp("described") / "workspace"), models[0])
    yield target
    target.stop()


def test_requests_made_from_the_description_are_answered_as_it_says(target: Target) -> None:
    """Schemathesis draws requests that fit the schema and requests that do not; no answer is a 5xx, and each has a described form."""
    import schemathesis

    asked: Counter[str] = Counter()
    for result in schemathesis.openapi.from_url(f"{target.url}/openapi.json").get_all_operations():
        operation = result.ok()
        if not operation.path.endswith(("/events", "/rollback")):  # a stream, and a subprocess of seconds each: asked elsewhere
            ask(operation, target.key, asked)
    assert asked["cases"] > 100 and asked["problems"] > 20, asked
    assert target.client.get("/readyz").status_code == 200 and "Traceback" not in (target.root.parent / "service.log").read_text()


def ask(operation: Any, key: str, asked: Counter[str]) -> None:
    """Ask one operation a few times."""
    from hypothesis import HealthCheck, given, settings
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

    fitting, others = (operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))

    @settings(max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=fitting | others)
    def once(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {key}"}, timeout=60)
        asked["cases"] += 1
        case.validate_response(answer, checks=[not_a_server_error, status_code_conformance])
        if answer.status_code >= 400:
            asked["problems"] += 1
            assert answer.headers["content-type"][0].startswith("application/problem+json") and answer.json()["detail"], answer.text
        elif answer.status_code == 200 and operation.path.startswith("/v1"):
            case.validate_response(answer, checks=[content_type_conformance, response_schema_conformance])

    once()
