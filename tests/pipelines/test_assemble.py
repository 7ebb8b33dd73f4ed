"""The sets of a cycle: what is drawn under the budget, what stays frozen, and what is refused."""

import unicodedata
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from media.shards import CLIP_COLUMNS, read_clip, read_landmarks
from pipelines import assemble
from pipelines.draw import Row, draw_balanced, panel
from pipelines.rows import rows_of
from pipelines.sides import MADE_OF_ERASED, split_of
from tests.pipelines.small_world import demo_settings
from tests.pipelines.tables import sample, write_batch
from workspace.cycle import Cycle
from workspace.errors import DataError, TooLittleData
from workspace.files import read_json, write_json
from workspace.for_review import erased_path
from workspace.forgetting import forget
from workspace.journal import Journal
from workspace.manifest import MANIFEST_COLUMNS, manifests, read_manifest, write_manifest
from workspace.naming import learning_order
from workspace.repository import init_repository
from workspace.settings import BudgetSettings, Settings
from workspace.state import BATCH_STATES


def cycle(batches: list[str], judged: list[str], seed: int = 1, forgers: tuple[str, ...] = ()) -> Cycle:
    return Cycle(cycle="2026-W47.1", seed=seed, batches=tuple(batches), judged=tuple(judged), drawn_forgers=forgers)


def budget(**more: Any) -> Settings:
    return demo_settings({"budget": more})


def week(prefix: str, real: int, fake: int = 0, generator: str = "gan", **more: Any) -> list[dict[str, Any]]:
    """Real and fake takes, each of somebody of their own."""
    reals = [sample(f"{prefix}-real-{number}", identity=f"{prefix}-{number}", **more) for number in range(real)]
    return reals + [sample(f"{prefix}-fake-{number}", "fake", f"{prefix}-f{number}", generator=generator, **more) for number in range(fake)]


def table(root: Path, side: str) -> pd.DataFrame:
    return pd.read_parquet(root / "data" / "sets" / f"{side}.parquet")


def every_side(root: Path) -> pd.DataFrame:
    return pd.concat([table(root, side) for side in ("train", "validation", "holdout")])


def test_real_media_become_sets_whose_clips_can_be_read(workspace_copy: Path) -> None:
    report = assemble.run(workspace_copy, demo_settings(), cycle(["w1"], ["w1"]))
    assert report == read_json(workspace_copy / "data" / "sets" / "report.json") and report["leaks"] == []
    everything = every_side(workspace_copy)
    assert set(everything.columns) == {*CLIP_COLUMNS, "store", "split", "role", "unit", "cluster", "new", "corrects"}
    assert everything["clip_id"].is_unique and everything["new"].all() and set(everything["origin"]) == {"collected", "forged"}
    for row in everything.to_dict("records"):
        assert read_clip(workspace_copy, row, verify=True).shape[0] == row["frames"] == read_landmarks(row).shape[0]
        assert row["split"] == split_of(row["identity"], demo_settings().split) and row["cluster"] == row["identity"]
        assert row["unit"] == (f"{row['sample_id']}+{row['forger']}" if row["origin"] == "forged" else row["sample_id"])
    assert report["train_rows"] == len(table(workspace_copy, "train")) == sum(report["counts"]["train"]["label"].values())


def test_what_corrects_a_label_that_was_learned_is_marked(tmp_path: Path) -> None:
    """The champion contradicts it because it has learned it so: three corrections held a whole week as wrong labels."""
    known, asked = week("k", 30, 30), week("n", 4, 4)
    wrong, right, first = known[40], known[2], asked[0]
    answers = [{**wrong, "label": "real", "generator": "", "case_id": "c1"}, {**right, "case_id": "c2"}, {**first, "case_id": "c3"}]
    write_batch(tmp_path, "b1", known)
    write_batch(tmp_path, "b2", answers + asked[1:])
    assemble.run(tmp_path, demo_settings(), cycle(["b1", "b2"], ["b2"]))
    rows = every_side(tmp_path)
    assert set(rows.loc[rows["corrects"], "sample_id"]) == {wrong["sample_id"]}
    assemble.run(tmp_path, demo_settings(), cycle(["b1", "b2"], []))
    assert not every_side(tmp_path)["corrects"].any(), "only while it is new"


@pytest.mark.parametrize("before", [{"label": ""}, {"quarantine": "empty file", "clips": 0}], ids=["no label", "put aside"])
def test_a_label_that_was_never_learned_is_not_corrected(tmp_path: Path, before: dict[str, Any]) -> None:
    """What is marked as a correction is left out of the noise of labels: that of a whole week could be hidden so."""
    one = sample("again", "fake", "ana")
    write_batch(tmp_path, "b1", [*week("k", 30, 30), {**one, **before}])
    write_batch(tmp_path, "b2", [{**one, "label": "real", "generator": ""}, *week("n", 4, 4)])
    assemble.run(tmp_path, demo_settings(), cycle(["b1", "b2"], ["b2"]))
    rows = every_side(tmp_path)
    assert (rows["sample_id"] == one["sample_id"]).any() and not rows["corrects"].any()


def test_what_is_replayed_corrects_nothing_though_another_source_said_otherwise(tmp_path: Path) -> None:
    trains = next(f"p{number}" for number in range(99) if split_of(f"p{number}", demo_settings().split) == "train")
    one = sample("asked", "real", trains, case_id="c1")
    write_batch(tmp_path, "b1", [*week("k", 30, 30), one])
    write_batch(tmp_path, "b2", [sample("asked", "fake", trains), *week("m", 4, 4)])
    write_batch(tmp_path, "b3", week("n", 4, 4))
    assemble.run(tmp_path, budget(replay_clips=400), cycle(["b1", "b2", "b3"], ["b3"]))
    rows = every_side(tmp_path)
    assert (rows["sample_id"] == one["sample_id"]).any() and not rows["corrects"].any()


def test_of_a_file_that_two_batches_hold_only_the_row_that_stands_is_drawn(tmp_path: Path) -> None:
    """Else a clip trains as what a person said and as what it was taken for before, both at once."""
    known = week("k", 30, 30)
    answers = [{**one, "label": "real", "generator": "", "case_id": f"c{place}"} for place, one in enumerate(known[30:])]
    write_batch(tmp_path, "b1", [*known, *week("m", 0, 30)])
    write_batch(tmp_path, "b2", answers)
    assemble.run(tmp_path, demo_settings(), cycle(["b1", "b2"], ["b2"]))
    rows = every_side(tmp_path)
    asked = rows[rows["sample_id"].isin([one["sample_id"] for one in answers]) & (rows["origin"] == "collected")]
    assert len(asked) and set(zip(asked["batch"], asked["label"], strict=True)) == {("b2", "real")} and rows["clip_id"].is_unique


def test_what_got_its_label_later_is_not_unlabelled_any_more(tmp_path: Path) -> None:
    asked, left = sample("asked", label="", identity="ana"), sample("left", label="", identity="bo", clips=2)
    write_batch(tmp_path, "b1", [*week("k", 30, 30), asked, left])
    write_batch(tmp_path, "b2", [{**asked, "label": "real", "case_id": "c1"}])
    report = assemble.run(tmp_path, demo_settings(), cycle(["b1", "b2"], ["b2"]))
    assert report["unlabelled"] == {"videos": 1, "drawn": 1}
    assert list(table(tmp_path, "unlabelled")["sample_id"]) == [left["sample_id"]] * 2


def test_the_same_cycle_gives_the_same_bytes(workspace_copy: Path) -> None:
    made = []
    for _ in range(2):
        assemble.run(workspace_copy, demo_settings(), cycle(["w1"], ["w1"]))
        made.append({path.name: path.read_bytes() for path in (workspace_copy / "data" / "sets").iterdir()})
    assert made[0] == made[1] and len(made[0]) == 5


def test_a_batch_without_fakes_trains_with_every_forgery_of_its_reals(tmp_path: Path) -> None:
    write_batch(tmp_path, "b1", week("a", 40), forgers=("self_blend", "landmark_swap"))
    report = assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"], forgers=("self_blend",)))
    train = table(tmp_path, "train")
    assert 2 * report["balance"]["real"] == report["balance"]["fake"] > 20  # each real met two forgers
    assert set(train.loc[train["role"] == "forged", "forger"]) == {"self_blend", "landmark_swap"}
    assert set(train["source_clip"]) - {""} <= set(train["clip_id"]), "real and fake of one source stay a pair"


def test_reals_that_have_no_fake_of_their_own_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only a real with a fake of its own makes a pair; `forge.max_clips` left four reals in five without, and nothing said so."""
    write_batch(tmp_path, "b1", week("a", 40), forgers=("self_blend", "landmark_swap"))
    write_batch(tmp_path, "b2", week("b", 40), forgers=())
    settings = demo_settings({"pretrain": {"pairs": True}})
    assert assemble.run(tmp_path, settings, cycle(["b1"], ["b1"]))["balance"]["paired_part"] == 1
    assert "of their own" not in capsys.readouterr().err
    report = assemble.run(tmp_path, settings, cycle(["b1", "b2"], ["b1", "b2"]))
    train = table(tmp_path, "train")
    paired = int(train["clip_id"].isin(set(train["source_clip"])).sum())
    assert 0.3 < paired / report["balance"]["real"] < 0.7 and report["balance"]["paired_part"] == paired / report["balance"]["real"]
    assert f"{paired} of {report['balance']['real']} reals to train on have a fake of their own" in capsys.readouterr().err


def test_a_tenth_of_the_drawn_clips_is_newly_forged_by_the_forgers_of_the_cycle(tmp_path: Path) -> None:
    write_batch(tmp_path, "b1", week("a", 90, 90), forgers=("self_blend", "landmark_swap"))
    assemble.run(tmp_path, budget(forged_fraction=0.1), cycle(["b1"], ["b1"], forgers=("landmark_swap",)))
    train = table(tmp_path, "train")
    assert abs((train["role"] == "forged").mean() - 0.1) < 0.01
    assert set(train.loc[train["role"] == "forged", "forger"]) == {"landmark_swap"}
    assemble.run(tmp_path, budget(forged_fraction=0.1), cycle(["b1"], ["b1"]))
    both = table(tmp_path, "train")["forger"].value_counts()
    assert abs(both["self_blend"] - both["landmark_swap"]) <= 1, "forgers in rotation"


def test_forgeries_stand_in_for_fakes_that_are_missing_and_one_collected_fake_changes_little(tmp_path: Path) -> None:
    """With a single collected fake in a batch its forgeries fell from all to a tenth, and that fake came in every other batch of the training."""
    forged = []
    for number, fakes in enumerate((0, 4, 20, 60)):
        write_batch(tmp_path / str(number), "b1", week("a", 90, fakes), forgers=("self_blend", "landmark_swap"))
        assemble.run(tmp_path / str(number), budget(forged_fraction=0.1), cycle(["b1"], ["b1"]))
        forged.append(int((table(tmp_path / str(number), "train")["role"] == "forged").sum()))
    assert forged[0] > forged[1] > 0.8 * forged[0] and forged[1] > forged[2] > forged[3] > 0


def test_where_there_are_more_forgers_than_places_those_forge_whose_turn_it_is(tmp_path: Path) -> None:
    names = ("self_blend", "landmark_swap", "reenact", "upsample", "restore")
    write_batch(tmp_path, "b1", week("a", 20, 20), forgers=names)
    for start in range(len(names)):
        turns = (*names[start:], *names[:start])
        assemble.run(tmp_path, budget(new_clips=14, forged_fraction=0.125), cycle(["b1"], ["b1"], forgers=turns))
        train = table(tmp_path, "train")
        assert set(train.loc[train["role"] == "forged", "forger"]) == set(turns[:2])


def test_the_draw_keeps_to_its_budget_and_replay_is_balanced(tmp_path: Path) -> None:
    write_batch(tmp_path, "b1", week("a", 200, 30, "old") + week("b", 0, 120, "older"))
    write_batch(tmp_path, "b2", week("c", 80, 80, "new"))
    report = assemble.run(tmp_path, budget(new_clips=30, replay_clips=40, forged_fraction=0.1), cycle(["b1", "b2"], ["b2"]))
    train = table(tmp_path, "train")
    assert train["role"].value_counts().to_dict() == {"replay": 40, "new": 30, "forged": 8}
    assert set(train.loc[train["role"] == "new", "batch"]) == {"b2"} and (train["new"] == (train["batch"] == "b2")).all()
    assert set(train["source_clip"]) - {""} <= set(train["clip_id"]), "only drawn clips are forged from"
    replay = train[train["role"] == "replay"]
    assert replay["label"].value_counts().to_dict() == {"real": 20, "fake": 20}
    assert replay["generator"].value_counts().to_dict() == {"": 20, "old": 10, "older": 10}
    assert report["counts"]["train"]["role"] == {"forged": 8, "new": 30, "replay": 40}


def test_where_nothing_new_came_replay_has_the_places_of_the_new(tmp_path: Path) -> None:
    """A network of another shape starts from nothing; it learned from the replayed clips alone, a fifth of what the champion had had."""
    write_batch(tmp_path, "b1", week("a", 200, 150, "old"))
    assemble.run(tmp_path, budget(new_clips=90, replay_clips=20, forged_fraction=0.1), cycle(["b1"], []))
    assert table(tmp_path, "train")["role"].value_counts().to_dict() == {"replay": 110, "forged": 12}


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_nameless_real_video_and_the_fakes_that_name_it_are_drawn_together(tmp_path: Path, forms: tuple[Any, Any]) -> None:
    """They count as one in every interval, as they do in the split, however its accents are typed; the video had a cluster of its own."""
    apart, (typed, file) = {"use": "evaluate"}, (unicodedata.normalize(form, "v/é.mp4") for form in forms)
    named = [sample(file, **apart), sample("f/a.mp4", "fake", source_video=typed, **apart), sample("v/b.mp4", **apart)]
    write_batch(tmp_path, "b1", [*week("a", 30, 30), *named])
    assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    shown = table(tmp_path, "holdout")
    of_sample = {one["path"]: set(shown.loc[shown["sample_id"] == one["sample_id"], "cluster"]) for one in named}
    assert of_sample[file] == of_sample["f/a.mp4"] == {unicodedata.normalize("NFC", typed)} and of_sample["v/b.mp4"] == {named[2]["sample_id"]}


def test_a_person_is_one_however_the_name_is_typed_and_whatever_video_it_is_made_of(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))
    apart, bo = {"use": "evaluate"}, sample("w/1", identity="bo", use="evaluate")
    named = [
        sample("v/1", identity=nfd, source_video="v/1", **apart), sample("v/2", "fake", nfc, source_video="w/1", **apart), sample("v/3", "fake", nfd, **apart),
    ]  # fmt: skip
    nameless = [sample("f/1", "fake", source_video="w/1", **apart), sample("f/2", "fake", source_video="v/2", **apart)]
    write_batch(tmp_path, "b1", [*week("a", 30, 30), *named, *nameless, bo])
    assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    shown = table(tmp_path, "holdout")
    of_sample = {one["path"]: set(shown.loc[shown["sample_id"] == one["sample_id"], "cluster"]) for one in (*named, *nameless, bo)}
    assert of_sample == {one["path"]: {nfc} for one in (*named, nameless[1])} | {"f/1": {"bo"}, "w/1": {"bo"}}, "what a file says of itself comes first"


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_nameless_fakes_of_a_person_s_video_count_as_that_person(tmp_path: Path, forms: tuple[Any, Any]) -> None:
    """A table that names people of its reals alone made two of each: intervals were too narrow, and people too many."""
    apart, (said, lies) = {"use": "evaluate"}, (partial(unicodedata.normalize, form) for form in forms)
    zoe = [
        sample(lies("v/é.mp4"), identity=lies("Zoé"), **apart), sample("f/1.mp4", "fake", source_video=said("v/é.mp4"), **apart),
        sample("v/2.mp4", identity=said("Zoé"), source_video=lies("entrée"), **apart),
        sample(lies("f/é.mp4"), "fake", source_video=said("entrée"), **apart), sample("f/3.mp4", "fake", source_video=said("f/é.mp4"), **apart),
    ]  # fmt: skip
    nobody = [sample("v/cut.mp4", source_video="talk", **apart), sample("f/4.mp4", "fake", source_video="v/cut.mp4", **apart)]
    circle = [sample("v/x.mp4", "fake", source_video="v/y.mp4", **apart), sample("v/y.mp4", "fake", source_video="v/x.mp4", **apart)]
    write_batch(tmp_path, "b1", [*week("a", 30, 30), *zoe, *nobody, *circle])
    report = assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    shown = table(tmp_path, "holdout")
    of_sample = {one["path"]: set(shown.loc[shown["sample_id"] == one["sample_id"], "cluster"]) for one in (*zoe, *nobody)}
    name = unicodedata.normalize("NFC", "Zoé")
    assert of_sample == {one["path"]: {name} for one in zoe} | {one["path"]: {"talk"} for one in nobody} and report["leaks"] == []


@pytest.mark.parametrize("sources", [("one", "two"), ("inbox", "inbox")])
def test_numbered_files_of_two_weeks_are_not_taken_for_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: tuple[str, str]) -> None:
    """Two tables both called a file real/0000.mp4, as numbered weekly drops do: most of the second was left out, as made of a video on another side, and
    of one source that is filled anew each week nameless fakes trained while their person judged."""

    def drop(week: str, source: str) -> list[dict[str, Any]]:
        who = {"source": source, "use": "train"}
        reals = [sample(f"{week}r{n}", identity=f"{week}-{n}", path=f"real/{n:04}.mp4", **who) for n in range(30)]
        fakes = [
            sample(f"{week}f{n}", "fake", f"{week}-{n}" if n % 2 else "", path=f"fake/{n:04}.mp4", source_video=f"real/{n:04}.mp4", **who) for n in range(30)
        ]
        return reals + fakes

    weeks = [drop(week, source) for week, source in zip(("w1", "w2"), sources, strict=True)]
    first, second = weeks
    elsewhere = sample("x", "fake", path="x.mp4", source="three", source_video="real/0005.mp4")  # of the source that had such a file first
    for batch, samples in (("b1", first), ("b2", second), ("b3", [elsewhere])):
        write_batch(tmp_path, batch, samples)
    settings = budget()
    report = assemble.run(tmp_path, settings, cycle(["b1", "b2", "b3"], ["b1", "b2", "b3"]))
    assert report["leaks"] == [] and report["excluded"] == {} and "left out" not in capsys.readouterr().err
    shown = every_side(tmp_path)
    for week, one in ((week, one) for week, samples in zip(("w1", "w2"), weeks, strict=True) for one in samples):
        person = f"{week}-{int(one['path'][5:9])}"
        rows = shown.loc[shown["sample_id"] == one["sample_id"]]
        assert set(rows["cluster"]) <= {person} and set(rows["split"]) <= {split_of(person, settings.split)}, "of whom its own week's video is"


def test_an_answer_changes_neither_what_a_file_is_called_nor_what_it_was_made_of(tmp_path: Path) -> None:
    """Its row is called by its hash and comes from the service: fakes that name the file trained while it judged, and a numbered source video was taken
    for that of another source, which was a leak that nobody could mend."""
    settings = budget()
    there = next(n for n in range(500) if split_of(f"one-{n}", settings.split) == "holdout")
    both = next(n for n in range(500) if split_of(f"one-{n}", settings.split) == "holdout" and split_of(f"two-{n}", settings.split) == "train")
    video, made = sample("v", "fake", f"one-{there}", path="v.mp4", source="one"), sample("f", "fake", path="f.mp4", source="one", source_video="v.mp4")
    numbered = [sample(f"{source}r", identity=f"{source}-{both}", path="real/4.mp4", source=source) for source in ("one", "two")]
    wrong = sample("w", "fake", f"two-{both}", path="fake/4.mp4", source="two", source_video="real/4.mp4")
    answers = [one | {"label": "real", "generator": "", "source": "feedback", "path": f"{one['sample_id']}.mp4", "case_id": "c"} for one in (video, wrong)]
    write_batch(tmp_path, "b1", [*week("a", 30, 30), video, made, *numbered, wrong])
    write_batch(tmp_path, "b2", answers)
    for names in (["b1"], ["b1", "b2"]):
        report = assemble.run(tmp_path, settings, cycle(names, names[-1:]))
        shown = every_side(tmp_path).set_index("sample_id")
        assert report["leaks"] == [] and report["excluded"] == {} and set(shown.loc[[made["sample_id"]], "split"]) == {"holdout"}
        assert set(shown.loc[[wrong["sample_id"]], "source_video"]) == {"two: real/4.mp4"} and set(shown.loc[[video["sample_id"]], "split"]) == {"holdout"}


def test_whom_the_champion_has_learned_never_judges_whatever_they_are_called_now(tmp_path: Path) -> None:
    """A batch that was dropped to come in again under mended names was hashed anew: 18 of 24 that judged had trained the champion."""
    settings, journal = budget(), Journal(tmp_path)
    for batch, names in (("b1", "ana"), ("b2", "Ana"), ("b3", "bo")):
        people = [sample(f"{'bo' if names == 'bo' else 'ana'}-{n}-{take}", identity=f"{names} {n}") for n in range(60) for take in (1, 2)]
        write_batch(tmp_path, batch, [*people, *week(f"{batch}x", 0, 20)])
    assemble.run(tmp_path, settings, cycle(["b1"], ["b1"]))
    learned = table(tmp_path, "train")
    known_by_heart = set(learned["sample_id"])
    journal.append("cycle_opened", cycle="2026-W45.1", judged=["b1"], base_model="", base_cycle="", fingerprint="f", scheduled=False, week="2026-W45")
    journal.append(
        "cycle_opened", cycle="2026-W46.1", judged=["b3"], base_model="b", base_cycle="2026-W45.1", fingerprint="f", scheduled=False, week="2026-W46"
    )
    write_json(tmp_path / "models" / "2026-W45.1" / "card.json", {"train_clips": list(learned["sha256"])})
    write_json(tmp_path / "models" / "2026-W46.1" / "card.json", {"train_clips": []})
    anew = replace(cycle(["b2", "b3"], ["b2", "b3"]), base_model="b" * 64, base_cycle="2026-W46.1")
    report = assemble.run(tmp_path, settings, anew)
    judges = pd.concat([table(tmp_path, "validation"), table(tmp_path, "holdout")])
    people = set(learned.loc[learned["label"] == "real", "identity"].str.replace("ana", "Ana"))
    assert report["excluded"][assemble.LEARNED] > 10 and not set(judges["sample_id"]) & known_by_heart and not set(judges["identity"]) & people
    assert any(judges["identity"].str.startswith("bo ")) and report["leaks"] == []


@pytest.mark.parametrize("tie", [{"source_video": "real/1.mp4"}, {"looks": "R1"}, {"label": "real", "duplicate_of": "R1"}, {"donor": "ana"}], ids=str)
def test_whom_the_champion_has_learned_never_judges_whyever_what_taught_it_is_left_out_now(tmp_path: Path, tie: dict[str, str]) -> None:
    """Only clips that stand, or that turned out to show somebody else, told whom it knows: a file of another source that was tied to one of hers kept
    that one out, and her other takes judged under the mended name. Nor did a face that was lent to a fake count as seen."""
    settings, journal = budget(), Journal(tmp_path)
    before, after = (lambda number, form=form: form.format(number) for form in ("ana {}", "Ana {}"))
    sides = ((split_of(before(number), settings.split), split_of(after(number), settings.split)) for number in range(500))
    number = next(number for number, side in enumerate(sides) if side == ("train", "holdout"))
    learned, other = sample("R1", identity=before(number), path="real/1.mp4", source="one"), sample("R2", path="real/2.mp4", source="one")
    trains = next(f"q{one}" for one in range(99) if split_of(f"q{one}", settings.split) == "train")
    lent = {"donor": before(number)} if "donor" in tie else tie
    fake = sample("F", **{"label": "fake", "identity": trains, "source": "two", **lent})
    write_batch(tmp_path, "b1", [learned])
    write_batch(tmp_path, "b2", [*week("k", 60, 60), fake])
    assemble.run(tmp_path, settings, cycle(["b1", "b2"], ["b1", "b2"]))
    taught = table(tmp_path, "train")
    assert {learned["sample_id"]} <= set(taught["sample_id"]) and ("donor" not in tie or fake["sample_id"] in set(taught["sample_id"]))
    journal.append("cycle_opened", cycle="2026-W45.1", judged=["b1", "b2"], base_model="", base_cycle="", fingerprint="f", scheduled=False, week="2026-W45")
    write_json(tmp_path / "models" / "2026-W45.1" / "card.json", {"train_clips": list(taught["sha256"])})
    mended = {"identity": after(number)}
    if "donor" in tie:  # all that is left of what taught it is the fake
        write_batch(tmp_path, "b2", [*week("k", 60, 60), fake | {"donor": after(number)}])
    write_batch(tmp_path, "b3", [other | mended] if "donor" in tie else [learned | mended, other | mended])
    anew = replace(cycle(["b2", "b3"], ["b3"]), base_model="b" * 64, base_cycle="2026-W45.1")
    report = assemble.run(tmp_path, settings, anew)
    judges = pd.concat([table(tmp_path, "validation"), table(tmp_path, "holdout")])
    assert other["sample_id"] not in set(judges["sample_id"]) and report["excluded"][assemble.LEARNED] == 1 and report["leaks"] == []


@pytest.mark.parametrize("use", ["train", "evaluate"])
def test_what_the_champion_has_learned_a_copy_of_never_judges(tmp_path: Path, use: str) -> None:
    """While a batch was dropped, a copy of one of its recordings trained under another name; once it was accepted again, the recording judged who knew it."""
    settings, journal = budget(), Journal(tmp_path)
    judges, trains = (next(f"{side}{n}" for n in range(99) if split_of(f"{side}{n}", settings.split) == side) for side in ("holdout", "train"))
    recorded = {"label": "real", "identity": judges} if use == "train" else {"label": "fake", "use": "evaluate"}
    first = sample("R", path="r.mp4", source="one", **recorded)
    copy = sample("C", recorded["label"], trains if use == "train" else "", path="clips/copy.mp4", source="two", looks="R")
    weeks = {"b0": week("k", 60, 60), "b1": [first, *week("m", 4, 4)], "b2": [copy, *week("n", 4, 4)], "b3": week("x", 4, 4)}
    for batch in weeks:
        journal.append("batch_added", batch=batch, source="x", samples=1, quarantined=0)
    in_batches(tmp_path, weeks)
    base, seen = "", []
    for number, (judged, state) in enumerate(((["b0", "b1"], "dropped"), (["b2"], "accepted"), (["b3"], ""))):
        left = [batch for batch in weeks if batch <= judged[-1] and (batch != "b1" or number != 1)]
        now = replace(cycle(left, judged), cycle=f"2026-W{number + 11}.1", base_model="b" * 64 if base else "", base_cycle=base)
        report = assemble.run(tmp_path, settings, now)
        seen.append([{*every_side(tmp_path).set_index("sample_id")["split"].get([one["sample_id"]], [])} for one in (first, copy)])
        write_json(tmp_path / "models" / now.cycle / "card.json", {"train_clips": list(table(tmp_path, "train")["sha256"])})
        learn(journal, number + 1, *judged)
        base = now.cycle
        if state:
            journal.append("batch_state", batch="b1", state=state, who="ana", why="so")
    assert seen == [[{"holdout"}, set()], [set(), {"train"}], [set(), set()]]
    assert report["excluded"][assemble.LEARNED] == 1 and report["leaks"] == []


def in_batches(root: Path, batches: dict[str, list[dict[str, Any]]]) -> None:
    """Write the samples as ingest and the stage faces would: a manifest, and its faces. Rows that a batch there already has are taken from there."""
    for batch, samples in batches.items():
        folder = root / "data" / "raw" / batch
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "manifest.parquet").is_file():
            rows = [{**dict.fromkeys(MANIFEST_COLUMNS, ""), **one, "batch": batch, "bytes": 0, "offset": 0} for one in samples]
            write_manifest(pd.DataFrame(rows)[list(MANIFEST_COLUMNS)], folder)
        rows = rows_of(read_manifest(folder))
        write_batch(root, batch, [{**row, "clips": int(row["use"] != "never")} for row in rows])


@pytest.mark.parametrize(("kept", "named"), [("holdout", ""), ("validation", "identity")])
def test_erasing_or_dropping_a_file_of_one_source_moves_nobody_of_another(tmp_path: Path, kept: str, named: str) -> None:
    """Of two numbered files real/4.mp4 one was erased: its fakes were taken for made of the other, and all files of the person in that one went to train.
    And nameless fakes of a video trained once it was erased, while other files of its person judged.
    """
    settings = budget()
    trains, judges = (next(f"{side}-{n}" for n in range(99) if split_of(f"{side}-{n}", settings.split) == side) for side in ("train", kept))
    first = sample("R1", identity=trains, path="real/4.mp4", source="one")
    made = sample("F", "fake", trains if named else "", path="fake/4.mp4", source="one", source_video="real/4.mp4")
    answer = made | {"source": "feedback", "path": "f.mp4", "case_id": "c"}
    other = [sample(f"R2-{n}", identity=judges, path=f"real/{n}.mp4", source="two") for n in (4, 5)]
    third = sample("R2-6", identity=judges, path="real/6.mp4", source="two")
    shows = [sample("F6", "fake", path="fake/6.mp4", source="two", source_video="real/6.mp4")]
    shows.append(sample("F7", "fake", path="fake/7.mp4", source="two", source_video="fake/6.mp4"))
    shows.append(sample("F8", "fake", path="fake/8.mp4", source="fakes alone", source_video="real/6.mp4"))
    weeks = {"b0": [first], "b1": [*week("k", 60, 60), made], "b2": [*week("m", 4, 4), *other, third, *shows], "b3": [answer], "b4": week("x", 4, 4)}
    for change in ("none", "drop", "erase"):
        root = tmp_path / change
        journal = Journal(root)
        for batch in weeks:
            journal.append("batch_added", batch=batch, source="x", samples=1, quarantined=0)
        in_batches(root, weeks)
        if change == "erase":
            init_repository(root, "")
            forget(root, {first["sample_id"]: "", third["sample_id"]: ""}, "ada")
            in_batches(root, weeks)
            rows = [row for manifest in manifests(root) for row in rows_of(read_manifest(manifest.parent))]
            assert {row["source_video"] for row in rows if row["sample_id"] == made["sample_id"]} == {erased_path(first["sample_id"])}
        if change == "drop":
            journal.append("batch_state", batch="b0", state="dropped", who="ada", why="bad")
        left = [batch for batch in weeks if batch != "b0" or change == "none"]
        report = assemble.run(root, settings, cycle(left, left[-1:]))
        shown = every_side(root).set_index("sample_id")
        sides = {one["path"]: set(shown.loc[shown.index == one["sample_id"], "split"]) for one in (made, *other, *shows)}
        unknown = change == "erase" and not named  # nobody can say any more whom it shows
        theirs = {one["path"]: set() if change == "erase" else {kept} for one in shows}
        assert sides == {"fake/4.mp4": set() if unknown else {"train"}, **{one["path"]: {kept} for one in other}, **theirs}, change
        assert report["leaks"] == [] and sum(report["excluded"].values()) == (len(shows) + unknown + 1 if change == "erase" else 0)
        assert report["excluded"].get(MADE_OF_ERASED, 0) == (len(shows) + unknown if change == "erase" else 0)


@pytest.mark.parametrize("answered", [False, True])
def test_what_a_dropped_batch_said_still_tells_whom_others_show(tmp_path: Path, answered: bool) -> None:
    """A nameless fake of a dropped video went from the holdout to the training while the person's other videos judged on, and so did fakes of a video
    that an answer kept: called by its hash, nothing that named it by its path knew it."""
    settings, journal = budget(), Journal(tmp_path)
    judges = next(f"h{n}" for n in range(99) if split_of(f"h{n}", settings.split) == "holdout")
    video, other = (sample(f"V{n}", identity=judges, path=f"real/{n}.mp4", source="one", use="evaluate") for n in (4, 5))
    fake = sample("F", "fake", path="fake/4.mp4", source="one", source_video="real/4.mp4")
    answer = [video | {"source": "feedback", "path": "c1.mp4", "case_id": "c1"}] if answered else []
    weeks = {"b0": [video], "b1": week("k", 60, 60), "b2": [fake, other], "b3": [*answer, *week("x", 4, 4)]}
    for batch in weeks:
        journal.append("batch_added", batch=batch, source="x", samples=1, quarantined=0)
    in_batches(tmp_path, weeks)
    for left in (list(weeks), list(weeks)[1:]):
        report = assemble.run(tmp_path, settings, cycle(left, ["b3"]))
        shown = every_side(tmp_path).set_index("sample_id")
        assert report["leaks"] == [] and {*shown.loc[[fake["sample_id"], other["sample_id"]], "split"]} == {"holdout"}
        assert set(shown.loc[[fake["sample_id"]], "cluster"]) == {judges}
        journal.append("batch_state", batch="b0", state="dropped", who="ada", why="bad")


@pytest.mark.parametrize("order", [("named", "names", "made"), ("named, made", "names", ""), ("made", "names", "named"), ("", "names", "named, made")], ids=str)
def test_nobody_s_side_depends_on_what_became_of_another_batch_that_names_people(tmp_path: Path, order: tuple[str, ...]) -> None:
    """A batch on hold was forgotten: a nameless fake of its video trained while the person's other videos judged, and the leak check knew of nobody."""
    settings = budget()
    judges = next(f"h{n}" for n in range(99) if split_of(f"h{n}", settings.split) == "holdout")
    files = {
        "named": sample("V5", identity=judges, path="real/5.mp4", source="one"), "names": sample("V4", identity=judges, path="real/4.mp4", source="one"),
        "made": sample("F", "fake", path="fake/4.mp4", source="one", source_video="real/4.mp4"),
    }  # fmt: skip
    extra = {"b0": week("k", 60, 60), "b1": week("m", 4, 4), "b2": week("n", 4, 4), "b3": week("x", 4, 4)}
    weeks = {batch: [*(files[name] for name in which.split(", ") if name), *extra[batch]] for batch, which in zip(extra, (*order, ""), strict=True)}
    found = {}
    for state, learned in (*((state, False) for state in BATCH_STATES), *((state, True) for state in ("accepted", "held", "dropped"))):
        root = tmp_path / f"{state} {learned}"
        journal = Journal(root)
        for batch in weeks:
            journal.append("batch_added", batch=batch, source="one", samples=1, quarantined=0)
        in_batches(root, weeks)
        learn(journal, 1, *(batch for batch in ("b0", "b1", "b2") if learned or batch != "b1"))
        if state != "new":
            journal.append("batch_state", batch="b1", state=state, who="ada", why="so")
        left = [batch for batch in weeks if batch != "b1" or state == "accepted"]
        assert assemble.run(root, settings, cycle(left, ["b3"]))["leaks"] == []
        used = every_side(root).set_index("sample_id")["split"]
        found[state, learned] = {name: set(used.loc[used.index == files[name]["sample_id"]]) for name in ("named", "made")}
    # when it was learned says which batch comes first; nothing else may count
    assert found == {(state, learned): found["accepted", learned] for state, learned in found}
    assert not any(len(set().union(*sides.values())) > 1 for sides in found.values()), "one person, one side"


def test_who_was_forged_as_one_who_trains_is_judged_without_those_fakes(tmp_path: Path) -> None:
    """An evaluating batch that is learned before but came in later moves a person whose face the forgers of the other have learned."""
    write_batch(tmp_path, "b1", [*week("a", 30, 30), sample("kept", identity="pia", use="evaluate")])
    write_batch(tmp_path, "b2", [*week("c", 30), sample("again", identity="pia")], forgers=("portrait",))
    report = tmp_path / "data" / "forged" / "b2" / "report.json"
    for judged, left in (([], 0), ([sample("again")["sample_id"]], 1)):
        write_json(report, {"judged": judged + [one["sample_id"] for one in week("c", 30)]})
        told = assemble.run(tmp_path, budget(), cycle(["b1", "b2"], ["b2"]))
        shown = table(tmp_path, "holdout")
        assert ((shown["forger"] == "portrait") & (shown["identity"] == "pia")).sum() == left
        assert told["forged_excluded"].get(assemble.FORGED_TO_TRAIN, 0) == 1 - left


def test_cost_follows_the_budget_not_the_history(tmp_path: Path) -> None:
    sizes = []
    for batches in (2, 20):
        for number in range(batches):
            write_batch(tmp_path, f"b{number:02d}", week(f"w{number}", 30, 30))
        names = [f"b{number:02d}" for number in range(batches)]
        assemble.run(tmp_path, budget(new_clips=20, replay_clips=20, evaluation_clips_per_slice=5), cycle(names, names[-1:]))
        sizes.append([len(table(tmp_path, side)) for side in ("train", "validation", "holdout")])
    assert abs(sizes[1][0] - sizes[0][0]) <= 2 and sizes[1][1] <= 30 and sizes[1][2] <= 30, "forged clips are rounded batch by batch"


def test_what_a_large_batch_had_no_place_for_is_replayed_later() -> None:
    """One order for the new draw and for replay, the same in all cycles, showed each week what was once drawn as new and never anything else."""
    history: list[Row] = []
    seen: list[set[str]] = []
    for number in range(8):
        fresh = [
            {"clip_id": f"{number}-{place}", "label": label, "generator": "", "split": "train", "batch": f"b{number}", "new": True}
            for place in range(100)
            for label in ("real", "fake")
        ]
        names = [f"b{earlier}" for earlier in range(number + 1)]
        drawn = assemble.draw_training([*history, *fresh], [], BudgetSettings(new_clips=100, replay_clips=100), cycle(names, names[-1:]))
        seen.append({row["clip_id"] for row in drawn})
        history += [row | {"new": False} for row in fresh]
    once_new = {clip for number, clips in enumerate(seen) for clip in clips if clip.startswith(f"{number}-")}
    assert len(set().union(*seen) - once_new) > 100, "clips that were left out as new"
    assert len(seen[-1] & seen[-2]) < 60, "of 100 replayed"


def test_the_seed_of_the_cycle_draws_other_replay_but_the_holdout_stays(tmp_path: Path) -> None:
    write_batch(tmp_path, "b1", week("a", 100, 100))
    write_batch(tmp_path, "b2", week("b", 20, 20))
    made = []
    for seed in (1, 2):
        assemble.run(tmp_path, budget(replay_clips=20, evaluation_clips_per_slice=10), cycle(["b1", "b2"], ["b2"], seed))
        made.append((set(table(tmp_path, "train")["clip_id"]), set(table(tmp_path, "holdout")["clip_id"])))
    assert made[0][0] != made[1][0] and made[0][1] == made[1][1]


def learn(journal: Journal, number: int, *batches: str) -> None:
    """A cycle was promoted that judged these batches."""
    name = f"2026-W{number + 10}.1"
    journal.append("cycle_opened", cycle=name, judged=list(batches), base_model="", fingerprint="f", scheduled=False, week=name[:8])
    journal.append("promotion", cycle=name, model_sha256="a" * 64, path=f"models/{name}", previous_sha256="", who="vigil", why="passed")


def test_a_batch_that_a_person_released_keeps_its_place_in_later_cycles(tmp_path: Path) -> None:
    """Were the order that of acceptance, it would stand behind the new batch of its own cycle and before it in the next."""
    journal = Journal(tmp_path)
    for batch in ("a", "z"):
        journal.append("batch_added", batch=batch, source="x", samples=1, quarantined=0)
    for batch, state in (("z", "held"), ("z", "accepted"), ("a", "accepted"), ("z", "held"), ("z", "accepted")):
        journal.append("batch_state", batch=batch, state=state, who="ana", why="looked at")
    in_its_cycle = learning_order(journal.events(), ["a", "z"])
    learn(journal, 1, "a", "z")
    later = learning_order(journal.events(), ["0-new", "a", "z"])
    assert later == [*in_its_cycle, "0-new"]


def test_only_what_a_promoted_cycle_learned_has_a_place_and_the_first_time_counts(tmp_path: Path) -> None:
    """Who comes first keeps its side: a held cycle trained no champion, and what is judged anew moves behind nobody."""
    journal = Journal(tmp_path)
    journal.append("cycle_opened", cycle="2026-W10.1", judged=["z"], base_model="", fingerprint="f", scheduled=False, week="2026-W10")
    journal.append("cycle_closed", cycle="2026-W10.1", outcome="held", reason="drift", verdict_sha256="")
    learn(journal, 1, "m")
    learn(journal, 2, "z")
    learn(journal, 3, "m", "a")
    assert learning_order(journal.events(), ["a", "m", "z"]) == ["m", "z", "a"]


@pytest.mark.parametrize("identity", ["unknown", "one person of the training side"])
def test_without_a_real_clip_to_validate_with_nothing_is_trained(tmp_path: Path, identity: str) -> None:
    split = demo_settings().split
    trains = next(f"p{number}" for number in range(99) if split_of(f"p{number}", split) == "train")
    write_batch(tmp_path, "b1", [one | {"identity": "" if identity == "unknown" else trains} for one in week("a", 30, 30)])
    with pytest.raises(TooLittleData, match="threshold"):
        assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))


def test_half_of_the_panel_is_frozen_and_half_the_latest(tmp_path: Path) -> None:
    settings = budget(evaluation_clips_per_slice=8)
    journal = Journal(tmp_path)
    frozen: set[str] = set()
    for number in range(4):
        # names go against time, so that an order by name would be seen
        write_batch(tmp_path, f"b{9 - number}", week(f"w{number}", 40, 40))
        journal.append("batch_added", batch=f"b{9 - number}", source="x", samples=80, quarantined=0)
        names = [f"b{9 - other}" for other in range(number + 1)]
        assemble.run(tmp_path, settings, cycle(names, names[-1:]))
        holdout = table(tmp_path, "holdout")
        assert frozen <= set(holdout.loc[~holdout["new"], "clip_id"])
        if number > 2:
            last = holdout[~holdout["new"] & (holdout["batch"] == names[-2]) & (holdout["label"] == "real")]
            assert last["unit"].nunique() == 4, "what was accepted last is judged, however full the panel was"
        assert holdout[~holdout["new"]].groupby(["label", "generator"])["unit"].nunique().max() <= 8 if number else holdout["new"].all()
        assert set(holdout.loc[holdout["new"], "batch"]) == {names[-1]}
        assert holdout[holdout["new"]].groupby(["label", "generator"])["unit"].nunique().max() <= 8
        learn(journal, number, names[-1])
        if number > 1:  # from then on there is more than the panel holds
            frozen = set(holdout.loc[~holdout["new"] & (holdout["batch"] == names[0]), "clip_id"])
    assert len(frozen) == 12  # half of the places of real, gan and self_blend


def clips_of(batch: str, videos: int, clips: int = 1) -> list[Row]:
    about = {"batch": batch, "label": "real", "generator": ""}
    return [about | {"clip_id": f"{batch}-{video}-{clip}", "unit": f"{batch}-{video}"} for video in range(videos) for clip in range(clips)]


def test_a_panel_counts_videos_and_its_odd_place_is_the_frozen_half_s() -> None:
    chosen = panel([*clips_of("z", 5, 3), *clips_of("a", 5, 3)], ["z", "a"], 3, "key")
    assert len(chosen) == 9, "all clips of three videos"
    assert len({row["unit"] for row in chosen if row["batch"] == "z"}) == 2 and len({row["unit"] for row in chosen if row["batch"] == "a"}) == 1
    assert {row["batch"] for row in panel([*clips_of("z", 5), *clips_of("a", 5)], ["z", "a"], 1, "key")} == {"z"}


@pytest.mark.parametrize("batch", ["z", "a"], ids=["the frozen half", "the latest half"])
def test_which_videos_of_a_batch_judge_follows_from_the_key(batch: str) -> None:
    """Whoever sends media could else choose, by their hashes, which of them are judged on."""
    one, two = ({row["unit"] for row in panel([*clips_of("z", 60), *clips_of("a", 60)], ["z", "a"], 20, key) if row["batch"] == batch} for key in "kl")
    assert len(one) == len(two) == 10 and one != two


def test_a_batch_accepted_late_takes_nobody_from_where_they_are(tmp_path: Path) -> None:
    person = next(f"p{number}" for number in range(99) if split_of(f"p{number}", demo_settings().split) == "train")
    write_batch(tmp_path, "b1", [*week("a", 30, 30), sample("kept", "fake", person, use="evaluate")])
    write_batch(tmp_path, "b2", [*week("b", 30, 30), sample("trains", identity=person)])
    journal = Journal(tmp_path)
    learn(journal, 1, "b2")  # b1 was held
    for judged in (["b1"], []):  # a person accepts it, and in the cycle after that nobody has changed places
        report = assemble.run(tmp_path, budget(replay_clips=400), cycle(["b1", "b2"], judged))
        learn(journal, 2, "b1")
    assert person in set(table(tmp_path, "train")["identity"]) and person not in set(table(tmp_path, "holdout")["identity"])
    assert report["excluded"] == {"kept for evaluation, but its person is on another side": 1} and report["leaks"] == []


def test_a_forged_clip_follows_its_source_and_falls_with_its_donor(tmp_path: Path) -> None:
    split = demo_settings().split
    samples = week("a", 60)
    sides = {one["path"]: split_of(one["identity"], split) for one in samples}
    donors = {one["path"]: samples[(place + 1) % len(samples)]["path"] for place, one in enumerate(samples)}
    write_batch(tmp_path, "b1", samples, donors=donors)
    report = assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    crossing = sum(sides[target] != sides[donor] for target, donor in donors.items())
    assert report["forged_excluded"] == {"donor and target on different sides": crossing} and crossing > 10 and report["leaks"] == []


@pytest.mark.parametrize("fakes", [0, 60], ids=["no collected fake", "as many fakes as reals"])
def test_of_a_forger_that_arrives_later_nothing_is_drawn_on_any_side(tmp_path: Path, fakes: int) -> None:
    """It trained where fakes were missing, and the threshold and the holdout had it each week: on its day it was new to nobody."""
    write_batch(tmp_path, "b1", week("a", 60, fakes), forgers=("self_blend", "later"))
    waits = replace(cycle(["b1"], ["b1"], forgers=("self_blend",)), waiting_forgers=("later",))
    for one, here in ((waits, False), (replace(waits, drawn_forgers=("later", "self_blend"), waiting_forgers=()), True)):
        report = assemble.run(tmp_path, budget(), one)
        drawn = [set(table(tmp_path, side)["forger"]) for side in ("train", "validation", "holdout")]
        assert all(("later" in forgers) is here and "self_blend" in forgers for forgers in drawn), drawn
        assert report["forged_excluded"] == ({} if here else {assemble.NOT_ARRIVED: 60})


def test_a_forged_clip_whose_donor_only_trains_or_is_not_used_falls(tmp_path: Path) -> None:
    split = demo_settings().split
    kept = next(f"p{number}" for number in range(99) if split_of(f"p{number}", split) == "holdout")
    trains = next(f"p{number}" for number in range(99) if split_of(f"p{number}", split) == "train")
    samples = [
        *week("a", 30, 30),
        sample("held out", identity=kept),
        sample("stranger"),
        sample("pupil", identity=trains),
        sample("copy", duplicate_of="stranger"),
    ]
    write_batch(tmp_path, "b1", samples, donors={"held out": "stranger", "pupil": "copy"})
    report = assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    assert report["forged_excluded"] == {"donor and target on different sides": 2, "forged from a sample that is not used": 1} and report["leaks"] == []


def test_a_leak_that_the_split_missed_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batch(tmp_path, "b1", [one | {"identity": "one person"} for one in week("a", 60, 60)])
    turn = iter(range(10**6))
    decide = assemble.decide_sides

    def broken(batches: Any, split: Any, said: Any) -> Any:
        sides = decide(batches, split, said=said)
        sides.of_sample = {name: ("train", "validation", "holdout")[next(turn) % 3] for name in sides.of_sample}
        return sides

    monkeypatch.setattr(assemble, "decide_sides", broken)
    report = assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    assert {"kind": "person", "key": "one person", "sides": ["holdout", "train", "validation"]} in report["leaks"]


def test_what_cannot_train_a_detector_is_refused(tmp_path: Path) -> None:
    write_batch(tmp_path, "b1", week("a", 0, 20))
    with pytest.raises(DataError, match="no real clip"):
        assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    assert not (tmp_path / "data" / "sets").exists()
    with pytest.raises(DataError, match="faces of batch b2"):
        assemble.run(tmp_path, budget(), cycle(["b1", "b2"], ["b2"]))


def test_what_was_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    extra = [
        sample("n1", label=""), sample("n2", use="never"), sample("n3", clips=0), sample("n4", quarantine="empty file", clips=0),
        sample("n5", duplicate_of="a-real-0"), sample("n6", label=""),
    ]  # fmt: skip
    write_batch(tmp_path, "b1", [*week("a", 30, 30), *extra])
    report = assemble.run(tmp_path, budget(), cycle(["b1"], ["b1"]))
    assert report["excluded"] == {"near duplicate of another sample": 1, "no clip": 1, "no label": 2, "quarantined": 1, "use is never": 1}
    assert sum(report["samples"].values()) == 60


def drawable(batch: str, reals: int, fakes: int, generator: str = "gan", new: bool = False) -> list[Row]:
    """Training clips as `draw_training` takes them."""
    about = {"batch": batch, "new": new, "split": "train", "forger": "", "source_clip": ""}
    made = [{**about, "clip_id": f"{batch}-r{number}", "label": "real", "generator": ""} for number in range(reals)]
    return made + [{**about, "clip_id": f"{batch}-{generator}{number}", "label": "fake", "generator": generator} for number in range(fakes)]


def forgeries(rows: list[Row], each: int, forgers: tuple[str, ...]) -> list[Row]:
    """`each` forgeries of every real, forgers in turn."""
    reals = [row for row in rows if row["label"] == "real"]
    turns = [(row, forgers[(number * each + one) % len(forgers)]) for number, row in enumerate(reals) for one in range(each)]
    return [{**row, "clip_id": f"{row['clip_id']}+{forger}", "label": "fake", "forger": forger, "source_clip": row["clip_id"]} for row, forger in turns]


FORGERS = tuple("abcdefg")


@pytest.mark.parametrize("batches", [5, 150])
def test_stand_ins_follow_what_a_batch_brought_however_few_of_it_are_drawn(batches: int) -> None:
    """Of a long history one clip a batch is replayed: by these, balanced batches lacked fakes by chance, and forgeries became a fifth of all."""
    rows = [row for number in range(batches) for row in drawable(f"b{number:03d}", 50, 50)] + drawable("new", 50, 50, new=True)
    names = sorted({row["batch"] for row in rows})
    drawn = assemble.draw_training(rows, forgeries(rows, 2, FORGERS), BudgetSettings(replay_clips=400, new_clips=1500), cycle(names, ["new"], forgers=FORGERS))
    assert sum(row["role"] == "forged" for row in drawn) / len(drawn) == pytest.approx(0.1, abs=0.01)


def test_stand_ins_of_many_small_batches_are_by_every_forger() -> None:
    rows = [row for number in range(60) for row in drawable(f"b{number:02d}", 3, 1)]
    names = sorted({row["batch"] for row in rows})
    drawn = assemble.draw_training(rows, forgeries(rows, 2, FORGERS), BudgetSettings(replay_clips=0, new_clips=1500), cycle(names, names, forgers=FORGERS))
    found = Counter(row["forger"] for row in drawn if row["role"] == "forged")
    assert set(found) == set(FORGERS) and max(found.values()) < 2 * min(found.values()), found


def test_of_more_generators_than_places_others_are_replayed_another_week() -> None:
    rows = [row for number in range(50) for row in drawable("b", 0, 4, f"g{number:02d}")] + drawable("b", 100, 0)
    seen = {row["generator"] for seed in range(10) for row in draw_balanced(rows, 40, seed) if row["label"] == "fake"}
    assert len(seen) > 45
