"""How models age: which champions are asked, what becomes of one that cannot answer, and the page's table and picture."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from model.card import load_card
from pipelines import decay
from pipelines.plots import decay_curve
from tests.model.toys import model_folder
from tests.pipelines.small_world import add_batch, demo_settings, second_cycle, write_sets
from workspace.batches import set_batch_state
from workspace.files import read_json, sha256_file, write_json
from workspace.journal import Journal
from workspace.state import Champion

SETTINGS = demo_settings({"evaluate": {"past_champions": 2}, "gates": {"min_slice": 2}})


def champions(number: int) -> list[Champion]:
    return [Champion(f"{at:064x}", f"2026-W{at:02}.1", at, f"models/2026-W{at:02}.1") for at in range(1, number + 1)]


@pytest.mark.parametrize(("number", "most", "versions"), [(0, 4, []), (3, 4, [1, 2, 3]), (10, 4, [1, 4, 7, 10]), (9, 1, [1]), (2, 1, [1])])
def test_the_first_the_last_and_some_between_are_asked(number: int, most: int, versions: list[int]) -> None:
    assert [champion.version for champion in decay.chosen(champions(number), most)] == versions


@pytest.fixture
def aged(tmp_path: Path) -> Path:
    """A workspace with a new batch on its holdout and two champions: one whose files are here, and one whose are not."""
    cycle = second_cycle("0" * 64)
    write_sets(tmp_path, add_batch(tmp_path, "b2", 20), set(cycle.judged))
    model_folder(tmp_path / "models" / "2026-W45.1")
    here = load_card(tmp_path / "models" / "2026-W45.1").model_sha256
    for name, sha256 in (("2026-W45.1", here), ("2026-W46.1", "1" * 64)):
        Journal(tmp_path).append(
            "promotion", cycle=name, model_sha256=sha256, path=f"models/{name}", verdict_sha256="", previous_sha256="", who="vigil", why=""
        )
    return tmp_path


def test_a_champion_is_rescored_on_new_videos_and_one_that_is_not_here_is_named(aged: Path) -> None:
    row = decay.record(aged, SETTINGS, second_cycle("0" * 64))
    assert row["why_not"] == "" and row["n_real"] >= 2 and row["n_fake"] >= 2
    here, gone = row["models"]
    assert here["cycle"] == "2026-W45.1" and 0 <= here["auc"]["value"] <= 1 and 0 <= here["balanced_accuracy"] <= 1 and here["why_not"] == ""
    low, high = here["auc"]["low"], here["auc"]["high"]
    assert (low is None) == (high is None) and (low is None or 0 <= low <= here["auc"]["value"] <= high <= 1)
    assert gone["auc"] is None and gone["why_not"] == "its files are not on this machine"
    decay.record(aged, SETTINGS, second_cycle("0" * 64))  # a cycle that was finished twice
    assert len(read_json(aged / decay.DECAY)["rows"]) == 1


def test_a_damaged_champion_stops_nothing_and_gives_no_figure(aged: Path) -> None:
    with open(aged / "models" / "2026-W45.1" / "model.onnx", "ab") as handle:
        handle.write(b"!")
    row = decay.record(aged, SETTINGS, second_cycle("0" * 64))
    assert [model["auc"] for model in row["models"]] == [None, None] and "sha256" in row["models"][0]["why_not"]


def test_a_champion_whose_threshold_was_changed_gives_no_figure(aged: Path) -> None:
    path = aged / "models" / "2026-W45.1" / "card.json"
    named = {"model_sha256": load_card(path.parent).model_sha256, "path": "models/2026-W45.1", "card_sha256": sha256_file(path)}
    (aged / "journal.jsonl").unlink()
    Journal(aged).append("promotion", cycle="2026-W45.1", verdict_sha256="", previous_sha256="", who="vigil", why="", **named)
    write_json(path, {**read_json(path), "threshold": 0.05})
    (row,) = decay.record(aged, SETTINGS, second_cycle("0" * 64))["models"]
    assert row["auc"] is None and "threshold" in row["why_not"]


def test_too_few_new_videos_are_no_figure(aged: Path) -> None:
    budget = {"evaluation_clips_per_slice": 500, "attack_clips": 500}
    row = decay.record(aged, demo_settings({"gates": {"min_slice": 500}, "budget": budget, "drift": {"max_samples": 500}}), second_cycle("0" * 64))
    assert row["models"] == [] and "500 of each are needed" in row["why_not"]


def test_what_counts_is_each_new_labelled_video_of_the_holdout_once(tmp_path: Path) -> None:
    """A model may have learned what is forged from, and what an earlier cycle brought was judged then: neither says how it ages."""
    settings, cycle = demo_settings({"gates": {"min_slice": 4}}), second_cycle("0" * 64)
    write_sets(tmp_path, pd.concat([add_batch(tmp_path, "b1", 20), add_batch(tmp_path, "b2", 20)]), set(cycle.judged))
    path = tmp_path / "data/sets/holdout.parquet"
    holdout = pd.read_parquet(path)
    new = holdout[holdout["new"]]
    forged, unlabelled = (new.assign(clip_id=new["clip_id"] + sign, unit=new["unit"] + sign) for sign in "fu")
    second_clips = new.assign(clip_id=new["clip_id"] + "2")
    pd.concat([holdout, second_clips, forged.assign(origin="forged"), unlabelled.assign(label="")]).to_parquet(path)
    row = decay.record(tmp_path, settings, cycle)
    assert (row["n_real"], row["n_fake"], row["why_not"]) == (4, 4, "")
    for label, counted in (("real", "4 real and 0 fake"), ("fake", "0 real and 4 fake")):
        holdout[holdout["label"] == label].to_parquet(path)
        assert decay.record(tmp_path, settings, cycle)["why_not"] == f"{counted} new holdout videos; 4 of each are needed"


def test_the_rows_of_earlier_cycles_stay(tmp_path: Path) -> None:
    cycle = second_cycle("0" * 64)
    write_sets(tmp_path, add_batch(tmp_path, "b2", 10), set(cycle.judged))
    earlier = {"cycle": "2026-W47.1", "n_real": 3, "n_fake": 4, "models": [], "why_not": "as it was"}
    write_json(tmp_path / decay.DECAY, {"rows": [earlier]})
    for _ in range(2):
        row = decay.record(tmp_path, SETTINGS, cycle)
        assert decay.rows_of(tmp_path) == [earlier, row] and row["cycle"] == cycle.cycle


def test_the_table_follows_each_model_over_the_dates_and_the_curve_is_drawn(tmp_path: Path) -> None:
    def row(cycle: str, **aucs: float | None) -> dict:
        models = [{"cycle": name, "auc": None if value is None else {"value": value, "low": value, "high": value, "n": 40}} for name, value in aucs.items()]
        return {"cycle": cycle, "n_real": 20, "n_fake": 20, "models": models, "why_not": ""}

    assert decay.table_of([row("c1", a=0.9)], []) == {}, "one date is no curve"
    table = decay.table_of([row("c1", a=0.9), row("c2", a=None, b=0.95), row("c3") | {"models": []}, row("c4", a=0.6, b=0.93)], [])
    assert table["models"] == ["a", "b"] and [line["cycle"] for line in table["lines"]] == ["c1", "c2", "c4"]
    assert [[value and value["value"] for value in line["auc"]] for line in table["lines"]] == [[0.9, None], [None, 0.95], [0.6, 0.93]]
    assert (tmp_path / decay_curve(tmp_path, table)).stat().st_size > 5000


def test_the_page_shows_how_models_age(tmp_path: Path) -> None:
    from pipelines.report import write_report
    from workspace.files import write_json

    def line(cycle: str, value: float) -> dict:
        auc = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 40}
        return {"cycle": cycle, "n_real": 21, "n_fake": 22, "models": [{"cycle": "2026-W40.1", "auc": auc, "why_not": ""}], "why_not": ""}

    write_json(tmp_path / decay.DECAY, {"rows": [line("2026-W41.1", 0.9), line("2026-W42.1", 0.7)]})
    page = write_report(tmp_path, second_cycle("0" * 64)).read_text(encoding="utf-8")
    assert "How models age" in page and "0.700 [0.600, 0.800]" in page and page.count("<figure>") == 1
    assert "Left out" not in page and ">held</span>" not in page
    assert not (tmp_path / "reports/plots").exists(), "the output of a stage: `dvc pull` refused where the report had changed it"
    shutil.rmtree(tmp_path / "reports")
    assert "How models age" not in write_report(tmp_path, second_cycle("0" * 64)).read_text(encoding="utf-8")


def test_media_that_were_dropped_are_no_age_of_a_model_and_held_ones_are_marked(tmp_path: Path) -> None:
    """A week of flipped labels, held and dropped, stood for good as a fall of the champion from 0.47 to 0.25."""
    from pipelines.report import KEPT, write_report

    def aged(cycle: str, value: float) -> dict:
        auc = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 40}
        return {"cycle": cycle, "n_real": 8, "n_fake": 8, "models": [{"cycle": "2026-W40.1", "auc": auc, "why_not": ""}], "why_not": ""}

    journal = Journal(tmp_path)
    for batch, cycle in (("b1", "2026-W41.1"), ("b2", "2026-W42.1"), ("b3", "2026-W43.1")):
        journal.append("batch_added", batch=batch, source="x", samples=16, quarantined=0)
        journal.append("cycle_opened", cycle=cycle, judged=[batch], base_model="", fingerprint="", scheduled=False, week="")
        journal.append("cycle_closed", cycle=cycle, outcome="held", reason="", verdict_sha256="", drifted=False)
        set_batch_state(tmp_path, batch, "held" if batch == "b2" else "accepted", who="vigil", why=cycle)
    write_json(tmp_path / decay.DECAY, {"rows": [aged("2026-W41.1", 0.9), aged("2026-W42.1", 0.25), aged("2026-W43.1", 0.8)]})

    def shown() -> tuple[str, list[str]]:
        page = write_report(tmp_path, second_cycle("0" * 64)).read_text(encoding="utf-8").split("<h2>How models age</h2>")[1].split("</table>")[0]
        return page, re.findall(r"<tr><td>(2026-W\d+\.1.*?)</td>", page)

    page, lines = shown()
    assert lines == ["2026-W41.1", '2026-W42.1 <span class="chip undecided">held</span>', "2026-W43.1"] and "wrong labels would look like ageing" in page
    drawn = (tmp_path / KEPT / "decay.png").read_bytes()
    set_batch_state(tmp_path, "b2", "dropped", who="ana", why="labels were flipped")
    page, lines = shown()
    assert lines == ["2026-W41.1", "2026-W43.1"] and "0.250" not in page and "Left out, since what came in was dropped: 2026-W42.1." in page
    assert (tmp_path / KEPT / "decay.png").read_bytes() != drawn, "nor in the curve"
    set_batch_state(tmp_path, "b2", "held", who="ana", why="another look")
    set_batch_state(tmp_path, "b2", "accepted", who="ana", why="they were right")
    page, lines = shown()
    assert lines == ["2026-W41.1", "2026-W42.1", "2026-W43.1"] and "ageing" not in page and "Left out" not in page
