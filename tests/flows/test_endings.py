"""However a cycle is interrupted, it ends, once, in what was decided; and what serves is what was judged. The loop of test_weeks.py, by hand."""

import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import flows.cycle
import tests.flows.test_weeks
from flows.taking_in import Taken
from tests.flows.test_weeks import SETTINGS, Clock, Loop
from vigil.deciding import set_batch_state
from vigil.opening import open_workspace
from workspace.cycle import read_cycle
from workspace.errors import DataError, ModelFileError, RegistryUnavailable, SettingsError, StageFailed, WorkspaceError
from workspace.files import write_json
from workspace.journal import Journal
from workspace.promotion import rollback
from workspace.repository import dvc_add
from workspace.settings import SplitSettings
from workspace.state import batch_states, champion, cycles, open_cycle

HELD = {"verdict": "fail", "results": [{"gate": "accuracy: false-positive rate", "verdict": "fail", "reason": "fpr 0.08"}]}


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    Clock.at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patch:
        yield Loop(tmp_path, patch)


def last(loop: Loop) -> Any:
    return cycles(Journal(loop.root).events())[-1]


def unreachable(*_: Any) -> None:
    raise RegistryUnavailable("The model registry did not answer.", why="it is down", next_step="Start it.")


def after(loop: Loop, name: str, change: Any) -> None:
    """Do something more at the end of a stage."""
    stage = loop.stage

    def played(root: Path, which: str, anew: Sequence[str]) -> None:
        stage(root, which, anew)
        if which == name:
            change(root)

    loop.stage = played  # type: ignore[method-assign]


def merge(path: Path, values: dict[str, Any]) -> None:
    write_json(path, json.loads(path.read_text()) | values)


def test_media_that_cannot_teach_end_their_cycle_and_are_judged_again_with_the_next_media(loop: Loop) -> None:
    """They waited for a person, and the next media were judged without them: fakes whose reals come in a week later, or first weeks of few people."""

    def hopeless(root: Path) -> None:
        if read_cycle(root).batches == ("b001",):
            said = "There is no real clip to train on. Why: no sample with this label has a face"
            raise StageFailed("Stage assemble did not finish.", why="no real clip", next_step="Ingest more media.", too_little=said)

    after(loop, "assemble", hopeless)
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "held" and "no real clip to train on" in last(loop).reason and "judged again with what comes in next" in last(loop).reason
    waits = batch_states(Journal(loop.root).events())["b001"]
    assert waits.state == "deferred" and waits.put_off, "no gate has judged it"
    assert loop.run(False, None) == "nothing new"
    loop.waiting.append(("b002", "good"))
    assert loop.run(False, None) == "promoted" and last(loop).judged == ("b001", "b002")


def test_a_known_batch_that_is_taken_out_while_a_cycle_is_paused_ends_that_cycle(loop: Loop) -> None:
    """It was dropped, and the paused cycle learned from it all the same, and might have been promoted."""
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"

    def broken(root: Path) -> None:
        raise StageFailed("Stage train did not finish.", why="the disk is full", next_step="Mend it.")

    stage = loop.stage
    after(loop, "train", broken)
    loop.waiting.append(("b002", "good"))
    with pytest.raises(StageFailed):
        loop.run(False, None)
    loop.stage = stage  # type: ignore[method-assign]
    assert "is held" in set_batch_state(loop.root, "b001", "dropped", "ana", "consent withdrawn")
    assert loop.run(False, None) == "held" and "took b001 out of what it learns from" in last(loop).reason and "Deferred" in last(loop).reason
    assert batch_states(Journal(loop.root).events())["b002"].state == "deferred", "nothing speaks against it"
    loop.waiting.append(("b003", "good"))
    assert loop.run(False, None) == "promoted" and last(loop).judged == last(loop).batches == ("b002", "b003")


def test_of_a_batch_that_is_taken_out_of_its_cycle_nobody_promises_that_it_is_judged_again(loop: Loop) -> None:
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, 17) == "killed"
    assert "again" not in set_batch_state(loop.root, "b001", "dropped", "ana", "consent withdrawn")
    assert loop.run(False, None) == "held" and last(loop).reason == "ana took b001 out of it: consent withdrawn."


def test_another_failure_of_a_stage_is_no_verdict_about_the_data(loop: Loop) -> None:
    def broken(root: Path) -> None:
        raise StageFailed("Stage train did not finish.", why="the disk is full", next_step="Mend it.")

    after(loop, "train", broken)
    loop.waiting.append(("b001", "good"))
    with pytest.raises(StageFailed, match="disk is full"):
        loop.run(False, None)
    assert open_cycle(Journal(loop.root).events()) and batch_states(Journal(loop.root).events())["b001"].state == "new"


def test_a_held_cycle_stays_held_however_it_goes_on(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = {"now": False}
    after(loop, "gate", lambda root: None if passes["now"] else merge(root / "reports/verdict.json", HELD))
    monkeypatch.setattr(flows.cycle, "publish", unreachable)
    loop.waiting.append(("b001", "good"))
    with pytest.raises(RegistryUnavailable):
        loop.run(False, None)
    assert open_cycle(Journal(loop.root).events()) is not None
    passes["now"] = True  # a setting was changed, a gate overridden, the probe has a better day
    monkeypatch.setattr(flows.cycle, "publish", lambda *_: None)
    assert loop.run(False, None) == "held" and "fpr 0.08" in last(loop).reason
    assert champion(Journal(loop.root).events()) is None and batch_states(Journal(loop.root).events())["b001"].state == "held"


def test_the_card_that_serves_is_the_card_that_was_judged(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    threshold = {"is": 0.3}
    after(loop, "train", lambda root: merge(root / "build/model/card.json", {"threshold": threshold["is"]}))
    killed = {"in": True}

    def probe(*_: Any) -> Any:
        if killed.pop("in", False):
            raise KeyboardInterrupt  # the candidate is kept, nothing decided
        return type("Passed", (), {"passed": True, "reason": "ready"})()

    monkeypatch.setattr(flows.cycle, "probe", probe)
    loop.waiting.append(("b001", "good"))
    with pytest.raises(KeyboardInterrupt):
        loop.run(False, None)
    threshold["is"] = 0.9  # evaluate.target_fpr was lowered: the same weights, another threshold
    assert loop.run(False, None) == "promoted"
    leading = champion(Journal(loop.root).events())
    assert leading is not None and json.loads((loop.root / leading.path / "card.json").read_text())["threshold"] == 0.9


def test_a_champion_whose_card_was_changed_opens_no_cycle_until_it_is_brought_back(loop: Loop) -> None:
    """Everything was trained, and judged at a threshold that nobody had shipped, while the same model was refused where it serves."""
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    leading = champion(Journal(loop.root).events())
    assert leading is not None
    card = loop.root / leading.path / "card.json"
    before, ran = card.read_text(), []
    after(loop, "faces", lambda root: ran.append("faces"))
    merge(card, {"threshold": 0.05})
    loop.waiting.append(("b002", "good"))
    with pytest.raises(ModelFileError, match=r"the one that was judged(.|\n)*vigil doctor --fix"):
        loop.run(False, None)
    assert not ran and open_cycle(Journal(loop.root).events()) is None
    card.write_text(before)
    assert loop.run(False, None) == "promoted" and last(loop).judged == ("b002",)


def test_nobody_is_sent_to_end_a_cycle_that_is_decided_by_the_command_that_was_just_refused(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.cycle, "publish", unreachable)
    loop.waiting.append(("b001", "good"))
    with pytest.raises(RegistryUnavailable):
        loop.run(False, None)
    with pytest.raises(WorkspaceError, match="b001 is under judgement") as refusal:
        set_batch_state(loop.root, "b001", "dropped", "ana", "consent withdrawn")
    assert f"{last(loop).cycle} is promoted, and not closed yet" in str(refusal.value) and "vigil batches" not in str(refusal.value)


@pytest.mark.parametrize("lost", ["an older one", "gone", "torn"])
def test_a_lost_cycle_file_is_written_again_from_the_journal(loop: Loop, lost: str) -> None:
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    path = loop.root / "cycle.yaml"
    old = path.read_bytes()
    loop.waiting.append(("b002", "good"))
    assert loop.run(False, 17) == "killed" and open_cycle(Journal(loop.root).events())
    right = path.read_bytes()
    if lost == "gone":
        path.unlink()
    else:
        path.write_bytes(old if lost == "an older one" else right[:20])
    assert loop.run(False, None) == "promoted" and last(loop).judged == ("b002",)
    assert path.read_bytes() == right and open_cycle(Journal(loop.root).events()) is None


def test_a_week_whose_source_was_down_stays_due(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.waiting.append(("b001", "good"))
    assert loop.run(True, None) == "promoted"
    Clock.at += timedelta(days=7)
    down = {"is": True}
    take_in = loop.take_in
    monkeypatch.setattr(flows.cycle, "take_in", lambda *words: Taken((), ("press: no answer",)) if down["is"] else take_in(*words))
    loop.waiting.append(("b002", "good"))
    with pytest.raises(DataError, match="press: no answer"):
        loop.run(True, None)
    assert loop.due() is not None
    down["is"] = False
    assert loop.run(True, None) == "promoted" and loop.due() is None


def test_a_tick_that_ends_an_unfinished_cycle_runs_its_own_week_too(loop: Loop) -> None:
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, 17) == "killed"
    Clock.at += timedelta(days=7)
    loop.waiting.append(("b002", "good"))
    assert loop.run(True, None) == "promoted"
    first, second = cycles(Journal(loop.root).events())
    assert not first.scheduled and first.judged == ("b001",) and second.scheduled and second.judged == ("b002",) and loop.due() is None


@pytest.mark.parametrize(
    ("its", "says"), [({"size_px": 112}, "size_px is 224, the champion's 112"), ({"mode": "fast"}, "mode is standard, the champion's fast")]
)
def test_crops_that_the_champion_never_saw_open_no_cycle(loop: Loop, its: dict[str, Any], says: str) -> None:
    after(loop, "train", lambda root: merge(root / "build/model/card.json", {"faces": {"fps": 5.0} | its}))
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    loop.waiting.append(("b002", "good"))
    with pytest.raises(SettingsError, match=rf"faces\.{says}"):
        loop.run(False, None)
    assert open_cycle(Journal(loop.root).events()) is None and batch_states(Journal(loop.root).events())["b002"].state == "new"


@pytest.mark.parametrize(("block", "name", "value"), [("faces", "size_px", 112), ("split", "key", "another")])
def test_a_cycle_that_cannot_go_on_with_other_settings_is_open_and_it_is_said_how_to_end_it(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, block: str, name: str, value: Any
) -> None:
    """It was said that no cycle was opened."""
    settings = SETTINGS.model_dump(mode="json")
    after(loop, "train", lambda root: merge(root / "build/model/card.json", {"faces": settings["faces"], "settings": {"split": settings["split"]}}))
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    loop.waiting.append(("b002", "good"))
    assert loop.run(False, 17) == "killed"
    changed = getattr(SETTINGS, block).model_copy(update={name: value})
    monkeypatch.setattr(tests.flows.test_weeks, "SETTINGS", SETTINGS.model_copy(update={block: changed}))
    with pytest.raises(SettingsError) as refusal:
        loop.run(False, None)
    assert str(refusal.value).startswith(f"{last(loop).cycle} does not go on: ") and "`vigil batches hold` or `drop` (b002)" in str(refusal.value)
    set_batch_state(loop.root, "b002", "held", "ana", "the other settings stay")
    monkeypatch.setattr(tests.flows.test_weeks, "SETTINGS", SETTINGS)
    assert loop.run(False, None) == "held"


def test_a_champion_that_is_not_here_is_fetched_before_a_cycle_is_opened_by_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks against its card were passed over, and no generator counted as known; it was fetched only afterwards."""
    root = tmp_path / "w"
    open_workspace(root, "demo")
    loop = Loop(root, monkeypatch)
    after(loop, "train", lambda _: merge(root / "build/model/card.json", {"generators_seen": ["faceswap"], "faces": {"size_px": 112}}))
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    folder = root / "models" / last(loop).cycle
    dvc_add(root, [folder])
    shutil.rmtree(folder)
    loop.waiting.append(("b002", "good"))
    with pytest.raises(SettingsError, match=r"faces\.size_px"):
        loop.run(False, None)
    assert folder.is_dir() and open_cycle(Journal(root).events()) is None
    shutil.rmtree(folder)
    faces = SETTINGS.faces.model_copy(update={"size_px": 112})
    monkeypatch.setattr(tests.flows.test_weeks, "SETTINGS", SETTINGS.model_copy(update={"faces": faces}))
    assert loop.run(False, None) == "promoted" and read_cycle(root).known_generators == ("faceswap",)


def test_a_champion_that_cannot_be_had_opens_no_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "w"
    open_workspace(root, "demo")
    loop = Loop(root, monkeypatch)
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    folder = root / "models" / last(loop).cycle
    dvc_add(root, [folder])
    for gone in (folder, root / ".dvc" / "cache"):
        shutil.rmtree(gone)
    loop.waiting.append(("b002", "good"))
    with pytest.raises(ModelFileError, match=r"could not be fetched(.|\n)*vigil doctor --push"):
        loop.run(False, None)
    assert open_cycle(Journal(root).events()) is None and batch_states(Journal(root).events())["b002"].state == "new"


@pytest.mark.parametrize(("name", "value"), [("holdout", 0.05), ("key", "another")])
def test_a_split_that_would_have_the_champion_judged_by_whom_it_trained_on_opens_no_cycle(loop: Loop, name: str, value: Any) -> None:
    split = SplitSettings().model_dump(mode="json")
    after(loop, "train", lambda root: merge(root / "build/model/card.json", {"settings": {"split": {**split, name: value}}}))
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    loop.waiting.append(("b002", "good"))
    with pytest.raises(SettingsError, match=f"the champion's split has {name}: {value}"):
        loop.run(False, None)
    assert open_cycle(Journal(loop.root).events()) is None and batch_states(Journal(loop.root).events())["b002"].state == "new"


def test_what_another_champion_put_off_is_held_by_the_gate_that_fails_it(loop: Loop) -> None:
    """It stayed deferred, as if it had passed all other gates, while the good week beside it waited for a person."""
    for batch in ("b001", "b002"):
        loop.waiting.append((batch, "good"))
        assert loop.run(False, None) == "promoted"
    loop.waiting.append(("b003", "bad"))
    assert loop.run(False, 17) == "killed" and open_cycle(Journal(loop.root).events()) is not None
    rollback(loop.root, who="ana", why="the newer one is worse")
    assert loop.run(False, None) == "held" and "the champion changed" in last(loop).reason
    assert batch_states(Journal(loop.root).events())["b003"].state == "deferred", "nobody has judged it"
    loop.waiting.append(("b004", "good"))
    assert loop.run(False, None) == "held"
    assert [batch_states(Journal(loop.root).events())[batch].state for batch in ("b003", "b004")] == ["held", "held"]


def test_a_batch_that_is_deferred_again_says_why_this_time(loop: Loop) -> None:
    """It kept its first reason, and with it that nobody had judged it: the next week's fault held it, though drift alone had."""
    for batch in ("b001", "b002"):
        loop.waiting.append((batch, "good"))
        assert loop.run(False, None) == "promoted"
    loop.waiting.append(("b003", "sparse"))
    assert loop.run(False, 17) == "killed"
    rollback(loop.root, who="ana", why="the newer one is worse")
    whys = []
    for batch, quality in (("", ""), ("b004", "good"), ("b005", "bad")):
        loop.waiting += [(batch, quality)] if batch else []
        assert loop.run(False, None) == "held"
        waiting = batch_states(Journal(loop.root).events())["b003"]
        assert waiting.state == "deferred" and waiting.why.startswith(last(loop).cycle), waiting
        whys.append((waiting.put_off, "champion changed" in waiting.why, "too little of it" in waiting.why, "bad labels" in waiting.why))
    assert whys == [(True, True, False, False), (False, False, True, False), (False, False, True, True)]


@pytest.mark.parametrize("taken", ["b001", "b003"])
def test_what_a_person_put_off_by_taking_another_batch_out_is_held_by_the_gate_that_fails_it(loop: Loop, taken: str) -> None:
    """It counted as passed by all other gates, and four good weeks beside it were held."""
    loop.waiting.append(("b001", "good"))
    assert loop.run(False, None) == "promoted"
    loop.waiting += [("b002", "bad"), ("b003", "good")]
    assert loop.run(False, 25) == "killed" and open_cycle(Journal(loop.root).events()) is not None
    set_batch_state(loop.root, taken, "dropped", "ana", "consent withdrawn")
    assert loop.run(False, None) == "held" and batch_states(Journal(loop.root).events())["b002"].state == "deferred", "nobody has judged it"
    loop.waiting.append(("b004", "good"))
    assert loop.run(False, None) == "held" and batch_states(Journal(loop.root).events())["b002"].state == "held"
    loop.waiting.append(("b005", "good"))
    assert loop.run(False, None) == "promoted"
