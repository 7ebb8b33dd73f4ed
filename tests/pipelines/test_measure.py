"""What `measure` writes and `vigil evaluate` says of it, with models that say what the file's name says: no network runs."""

import csv
import os
import shutil
import threading
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from model.inference import FileVerdict
from model.metrics import auc, summarise
from pipelines.measure import measure, read_labelled
from tests.workspace.worlds import make_model, verdict_for
from vigil.main import app
from vigil.measuring import evaluate_cross, evaluate_source, measured_sources, render, render_cross
from workspace.errors import DataError, WorkspaceError
from workspace.files import read_json, rows_of
from workspace.profiles import compose_params
from workspace.promotion import promote
from workspace.settings import SourceSettings

NUMBERS = count()
SATURATED = 1 - 2.0**-30  # as a sure model says it; six decimals make it 1


def model(name: str = "first", mode: str = "standard", knows: str = "anna", lists: tuple[str, ...] = ("a clip",)) -> Any:
    """A model that was trained on every file whose name begins with `knows`, where the mode is its own."""
    card = SimpleNamespace(threshold=0.5, faces=SimpleNamespace(mode=mode), train_clips=lists, cycle=f"cycle of {name}", generators_seen=("gan",))
    return SimpleNamespace(model_id=name, card=card, knows=knows)


def say(engines: list[Any], path: Path, mode: str | None = None) -> list[FileVerdict]:
    """p_fake is the content of a file; a broken one has none. A still is known again in every mode."""
    text = path.read_text()
    if text == "broken":
        return [FileVerdict(str(path), None, "none", 0, 0, "unreadable", engine.model_id, "") for engine in engines]
    kind = "image" if path.suffix == ".png" else "video"
    known = [
        path.name.startswith(engine.knows) and (kind == "image" or mode in (None, engine.card.faces.mode)) and engine.card.train_clips for engine in engines
    ]
    verdict = "fake" if float(text) >= 0.5 else "real"
    return [
        FileVerdict(str(path), float(text), verdict, 1, 1, "", engine.model_id, kind, learned=int(bool(it))) for engine, it in zip(engines, known, strict=True)
    ]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written and said is asked here; what an interval is worth, in tests/model/test_intervals.py."""
    monkeypatch.setattr("pipelines.measure.RESAMPLES", 100)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The models by their folders' names, for the commands."""
    models = {"first": model(), "second": model("second", knows="nobody")}
    monkeypatch.setattr("model.inference.score_file_with", say)
    monkeypatch.setattr("model.inference.Engine", lambda folder: models[Path(folder).name])
    monkeypatch.setattr("vigil.measuring.choose_model", lambda workspace, named: (Path(named or "first"), ""))
    monkeypatch.setattr("vigil.measuring.model_folder", lambda named: named)
    return models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two people, two real and two forged videos each."""
    for person, real, fake in (("anna", 0.1, 0.8), ("bert", 0.3, 0.9)):
        write(tmp_path / "set", {f"{kind}/{person}_{take}.mp4": p for kind, p in (("real", real), ("fake/gan", fake)) for take in (1, 2)})
    return tmp_path / "set"


def write(folder: Path, said: dict[str, float]) -> None:
    for name, p_fake in said.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(repr(p_fake) + " " * next(NUMBERS))  # no two files are equal


def evaluated(path: Path, out: Path, identity: str = "", mode: str = "") -> dict[str, Any]:
    return evaluate_source(measured_sources([str(path)], "auto", identity, [], [])[0], None, None, out, mode)


def crossed(paths: list[Path], out: Path, mode: str = "", models: tuple[str, ...] = ("first", "second")) -> dict[str, Any]:
    return evaluate_cross(measured_sources([str(path) for path in paths], "auto", "", [], []), None, [Path(name) for name in models], out, mode, history=False)


def test_saturated_scores_can_be_recomputed_from_the_table(tmp_path: Path) -> None:
    write(
        tmp_path / "set", {f"fake/gan/{n}.mp4": SATURATED + n * 2.0**-50 for n in range(40)} | {f"real/{n}.mp4": SATURATED - n * 2.0**-50 for n in range(1, 41)}
    )
    (report,) = measure([model()], read_labelled(SourceSettings(name="set", path=str(tmp_path / "set"))), [tmp_path])
    with open(tmp_path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels, scores = [row["label"] for row in rows], [float(row["p_fake"]) for row in rows]
    assert report["overall"]["auc"]["value"] == auc(labels, scores) == 1.0
    assert report["overall"]["ece"]["value"] == summarise(labels, scores, report["threshold"])["ece"]
    assert all(score == float((tmp_path / "set" / row["file"]).read_text()) for row, score in zip(rows, scores, strict=True))


def test_stills_of_one_class_alone_have_no_calibration_error(folder: Path, tmp_path: Path) -> None:
    """Of reals alone it was their mean p_fake, with an interval, beside an AUC that nobody could say."""
    write(folder, {f"real/still_{n}.png": 0.1 + n / 100 for n in range(6)})
    report = evaluated(folder, tmp_path / "out")
    assert report["by_kind"]["image"]["ece"] == report["by_kind"]["image"]["auc"] and report["by_kind"]["image"]["ece"]["value"] is None
    assert report["overall"]["ece"]["value"] is not None
    (line,) = (line for line in render(report).splitlines() if line.startswith("image"))
    assert line.split()[-1] == "-"


def test_files_are_drawn_and_called_so_where_nobody_says_who_is_in_them(folder: Path, tmp_path: Path) -> None:
    for identity in ("", "file", "unknown", r"pattern:^(nobody)"):
        report = evaluated(folder, tmp_path / "out", identity)
        assert report["drawn"] == {"over": "files", "people": 0, "source_videos": 0, "files": 8} and report["overall"]["auc"]["clusters"] == 8
        assert "95% intervals over files: nobody says whose faces these are (--identity)." in render(report)


def test_identity_means_what_it_means_to_ingest(folder: Path, tmp_path: Path) -> None:
    report = evaluated(folder, tmp_path / "out", r"pattern:^([a-z]+)_")
    assert report["drawn"] == {"over": "people", "people": 8, "source_videos": 0, "files": 0} and report["overall"]["auc"]["clusters"] == 2
    assert "95% intervals over people." in render(report)
    with open(tmp_path / "out" / "predictions.csv", newline="") as handle:
        assert {row["identity"] for row in csv.DictReader(handle)} == {"anna", "bert"}
    write(folder, {"real/carl/1.mp4": 0.2, "fake/gan/carl/1.mp4": 0.7})
    report = evaluated(folder, tmp_path / "out", "folder")
    assert report["drawn"] == {"over": "files", "people": 2, "source_videos": 0, "files": 8}
    assert "intervals over people where known, else over files: nobody says whose faces 8 of 10 files show (--identity)." in render(report)
    with pytest.raises(DataError, match="does not say who is in its files"):
        evaluated(folder, tmp_path / "out", "column")


def test_a_table_that_names_people_is_believed_and_one_that_names_source_videos_draws_these(folder: Path, tmp_path: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.mp4"))
    for column, said in (("identity", "over people."), ("source_video", "over source videos: nobody says whose")):
        lines = [f"{name},{name.split('/')[0]},{Path(name).name.split('_')[0]}" for name in files]
        (folder / "labels.csv").write_text("\n".join([f"path,label,{column}", *lines]))
        report = evaluated(folder / "labels.csv", tmp_path / "out")
        assert said in render(report) and report["overall"]["auc"]["clusters"] == 2
    assert evaluated(folder / "labels.csv", tmp_path / "out", "unknown")["drawn"]["over"] == "source_videos"
    with pytest.raises(DataError, match="does not say who is in its files"):
        evaluated(folder / "labels.csv", tmp_path / "out", "column")
    lines = [f"{name},{name.split('/')[0]},{'anna' * ('real/anna' in name)},{'anna' * ('fake/gan/anna' in name)}" for name in files]
    lines += [
        "real/carl.mp4,real,,",
        "fake/gan/carl.mp4,fake,,real/carl.mp4",
    ]  # a person and a source video are two, a real and what names it as its source one
    write(folder, {"real/carl.mp4": 0.2, "fake/gan/carl.mp4": 0.7})
    (folder / "labels.csv").write_text("\n".join(["path,label,identity,source_video", *lines]))
    assert evaluated(folder / "labels.csv", tmp_path / "out")["overall"]["auc"]["clusters"] == 2 + 4 + 1


def test_a_fake_without_a_name_counts_with_the_person_of_the_video_that_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    """As to ingest and to the gates. Each was drawn by itself: the intervals were too narrow, and nobody was said to say who is in it."""
    write(folder, {"real/carl.mp4": 0.2, "fake/gan/carl.mp4": 0.7, "fake/gan/ren\u00e9_1.mp4": 0.6, "fake/gan/ren\u00e9_2.mp4": 0.7})
    lines = [f"real/{person}_{take}.mp4,real,{person}," for person in ("anna", "bert") for take in (1, 2)]
    lines += [f"fake/gan/{person}_{take}.mp4,fake,,real/{person}_{take}.mp4" for person in ("anna", "bert") for take in (1, 2)]
    (folder / "labels.csv").write_text("\n".join(["path,label,identity,source_video", *lines]))
    report = evaluated(folder / "labels.csv", tmp_path / "out")
    assert report["drawn"] == {"over": "people", "people": 8, "source_videos": 0, "files": 0} and report["overall"]["auc"]["clusters"] == 2
    lines += ["real/carl.mp4,real,,", "fake/gan/carl.mp4,fake,,real/carl.mp4"]  # of whom nobody says anything
    lines += ["fake/gan/ren\u00e9_1.mp4,fake,ren\u00e9,elsewhere.mp4", "fake/gan/ren\u00e9_2.mp4,fake,,fake/gan/rene\u0301_1.mp4"]  # a fake of a fake
    (folder / "labels.csv").write_text("\n".join(["path,label,identity,source_video", *lines]))
    report = evaluated(folder / "labels.csv", tmp_path / "out")
    assert report["drawn"] == {"over": "files", "people": 10, "source_videos": 1, "files": 1} and report["overall"]["auc"]["clusters"] == 2 + 1 + 1


def test_copies_are_measured_once_and_what_is_both_real_and_fake_not_at_all(folder: Path, tmp_path: Path) -> None:
    """Copies passed for independent files, which made intervals too narrow, and one file was measured in both classes."""
    alone = evaluated(folder, tmp_path / "out")
    for number in range(3):
        shutil.copy(folder / "real" / "anna_1.mp4", folder / "real" / f"copy_{number}.mp4")
    for label in ("real", "fake/gan"):
        (folder / label / "both.mp4").write_text("0.5")
    table = (tmp_path / "out" / "predictions.csv").read_bytes()
    report = evaluated(folder, tmp_path / "out")
    assert report["overall"] == alone["overall"] and (tmp_path / "out" / "predictions.csv").read_bytes() == table
    assert report["not_measured"] == {"copies": 3, "two_labels": 2, "unlabelled": 0, "never": 0, "unlisted": 0}
    listing = tmp_path / "listing.csv"
    listing.write_text(f"path,label,use\n{folder}/real/anna_1.mp4,real,\n{folder}/fake/gan/both.mp4,fake,\n{folder}/real/both.mp4,,never\n")
    assert evaluated(listing, tmp_path / "listed")["not_measured"] == {"copies": 0, "two_labels": 0, "unlabelled": 0, "never": 2, "unlisted": 0}, (
        "counted once, and the strictest use wins, as at ingest"
    )
    assert "left out: 3 files that are copies of others" in render(report) and "left out: 2 files whose content is there as real and as fake" in render(report)
    shutil.rmtree(folder / "fake")
    shutil.copytree(folder / "real", folder / "fake")
    with pytest.raises(DataError, match="both labels"):
        evaluated(folder, tmp_path / "out")


def test_files_that_were_passed_over_are_said(folder: Path, tmp_path: Path) -> None:
    """A folder whose name says nothing of its forgeries was passed over without a word: the figures were of fewer, and `8 of 8 files got a verdict`."""
    write(folder, {f"fakes_new/{number}.mp4": 0.9 for number in range(3)})
    report = evaluated(folder, tmp_path / "out")
    assert report["answered"]["of"] == 8 and "left out: 3 files without a label" in render(report)
    listing = tmp_path / "listing.csv"
    listing.write_text(f"path,label,use\n{folder}/real/anna_1.mp4,real,\n{folder}/fake/gan/anna_1.mp4,fake,never\n")
    assert "left out: 1 files whose use is never" in render(evaluated(listing, tmp_path / "listed"))
    found = crossed([folder, listing], tmp_path / "cross")
    assert "left out of 1 set: 3 files without a label" in render_cross(found)
    assert "left out of 2 listing.csv: 1 files whose use is never" in render_cross(found)
    kept = [[cell["not_measured"]["unlabelled"] for cell in row["cells"]] for row in read_json(tmp_path / "cross" / "cross.json")["models"]]
    assert kept == [[3, 0], [3, 0]]


@pytest.fixture
def celebdf(tmp_path: Path) -> Path:
    """Celeb-DF of eight training videos that the model tells apart, and of its test part four that it takes for their contrary and fifty that are not there."""
    folder = tmp_path / "Celeb-DF-v2"
    fakes = [f"Celeb-synthesis/id{n}_id{n + 1}_0000.mp4" for n in range(4)]
    write(folder, {f"Celeb-real/id{n}_0000.mp4": 0.1 + n / 100 for n in range(4)} | dict.fromkeys(fakes, 0.9))
    tested = {f"YouTube-real/0017{n}.mp4": 0.8 + n / 100 for n in range(2)} | {f"Celeb-synthesis/id{n}_id30_0001.mp4": 0.2 for n in (10, 11)}
    write(folder, tested)
    gone = [f"Celeb-synthesis/id{n}_id{n + 1}_0009.mp4" for n in range(30, 80)]
    (folder / "List_of_testing_videos.txt").write_text("".join(f"{int(name.startswith('YouTube'))} {name}\n" for name in [*tested, *gone]))
    return folder


def test_the_official_test_part_has_figures_of_its_own_and_what_is_missing_of_it_is_told(celebdf: Path, folder: Path, tmp_path: Path) -> None:
    """It was pooled with the part that is trained on, and half a download passed for the set: its list says of each whether it is real."""
    report = evaluated(celebdf, tmp_path / "out")
    tested, rest = report["by_use"]["evaluate"], report["by_use"]["train"]
    assert (tested["auc"]["value"], tested["n"], tested["of"]) == (0.0, 4, 54) and (rest["auc"]["value"], rest["n"], rest["of"]) == (1.0, 8, 8)
    assert report["answered"]["of"] == 62 and report["no_verdict"] == {"file not found": 50} and report["not_measured"]["unlabelled"] == 0
    text = render(report)
    assert "  not all of use evaluate got a verdict: 4 of 54 files" in text and "6 of 890 real, 6 of 5639 fake, 4 of 518 test, as published" in text
    (line,) = (line for line in text.splitlines() if line.startswith("use evaluate"))
    assert line.split()[2:5] == ["2", "2", "0.000"]
    with open(tmp_path / "out/predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert sum(row["use"] == "evaluate" for row in rows) == 54 and {row["generator"] for row in rows if row["label"] == "fake"} == {"Celeb-synthesis"}
    found = crossed([celebdf, folder], tmp_path / "cross", models=("first",))
    assert found["models"][0]["cells"][0]["by_use"]["evaluate"]["auc"]["value"] == 0.0 and found["models"][0]["cells"][1]["by_use"] == {}
    head, line = render_cross(found).splitlines()[:2]
    assert head.split() == ["model", "cycle", "1", "Celeb-DF-v2", "1", "use", "evaluate", "2", "set"]
    assert "0.000" in line and "as published" in render_cross(found)


def test_what_a_file_does_not_say_its_copies_do(folder: Path, tmp_path: Path) -> None:
    """As at ingest. A copy with a label alone that came first made its person unknown and its generator `unknown`, and what may never be used was measured."""
    for name in ("real/anna_1", "real/bert_1", "fake/gan/anna_1"):
        (folder / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"{name}.mp4", folder / "a" / f"{name}.mp4")
    rows = ["a/real/anna_1.mp4,real,,,", "a/fake/gan/anna_1.mp4,fake,,,", "a/real/bert_1.mp4,real,,,", "real/bert_1.mp4,,never,bert,"]
    rows += ["real/anna_1.mp4,real,,anna,gan", "fake/gan/anna_1.mp4,fake,,anna,gan", "real/anna_2.mp4,real,,anna,", "fake/gan/bert_1.mp4,fake,,bert,gan"]
    (folder / "c.mp4").write_bytes((folder / "real/anna_2.mp4").read_bytes())
    rows.append("c.mp4,,,anna,")  # nobody says what it is
    (folder / "labels.csv").write_text("\n".join(["path,label,use,identity,generator", *rows]))
    report = evaluated(folder, tmp_path / "out")
    assert report["drawn"] == {"over": "people", "people": 4, "source_videos": 0, "files": 0} and {*report["by_generator"]} == {"gan"}
    assert report["not_measured"] == {"copies": 2, "two_labels": 0, "unlabelled": 1, "never": 2, "unlisted": 3}
    with open(tmp_path / "out" / "predictions.csv", newline="") as handle:
        said = {row["file"]: (row["identity"], row["generator"]) for row in csv.DictReader(handle)}
    assert said["a/real/anna_1.mp4"] == ("anna", "") and said["a/fake/gan/anna_1.mp4"] == ("anna", "gan") and "a/real/bert_1.mp4" not in said


def test_of_copies_in_both_parts_the_one_for_evaluation_counts(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "real/bert_1.mp4", folder / "real/copy.mp4")
    rows = [
        f"{path.relative_to(folder)},{path.relative_to(folder).parts[0]},{'evaluate' * (path.name in ('copy.mp4', 'bert_2.mp4'))}"
        for path in folder.rglob("*.mp4")
    ]
    (folder / "labels.csv").write_text("\n".join(["path,label,use", *sorted(rows)]))
    report = evaluated(folder, tmp_path / "out")
    assert (report["by_use"]["evaluate"]["n_real"], report["by_use"]["evaluate"]["n_fake"]) == (2, 1) and report["by_use"]["train"]["n"] == 5
    assert "  4 of these files, 0 of use evaluate, trained this very model" in render(report) and report["by_use"]["train"]["learned"] == 4


def test_media_that_a_table_does_not_name_are_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").write_text("path,label,use\nreal/anna_1.mp4,real,train\nfake/gan/anna_1.mp4,fake,train\n")
    report = evaluated(folder, tmp_path / "out")
    assert report["not_measured"]["unlisted"] == 6 and "  left out: 6 photos and videos of the folder that its table does not name, or" in render(report)
    assert report["by_use"] == {} and "use train" not in render(report), "it is of one part alone"


def test_a_source_whose_path_is_no_text_is_measured(folder: Path, tmp_path: Path, no_network: dict[str, Any]) -> None:
    """After all of its files had been scored it ended as a mistake in Vigil, each time."""
    odd, out = (tmp_path / os.fsdecode(name) for name in (b"s\xe9t", b"o\xe9t"))
    folder.rename(odd)
    no_network[odd.name] = no_network["first"]
    evaluated(odd, out)
    assert read_json(out / "evaluation.json")["source"] == f"{tmp_path}/s\\xe9t"
    crossed([odd], out, models=(odd.name,))
    found = read_json(out / "cross.json")
    assert found["sources"] == [found["models"][0]["cells"][0]["source"]] == [f"{tmp_path}/s\\xe9t"]
    assert found["models"][0]["folder"] == "s\\xe9t" and found["out"] == f"{tmp_path}/o\\xe9t"


def test_a_matrix_says_how_many_files_got_a_verdict_where_some_did_not(folder: Path, tmp_path: Path) -> None:
    """All that was shown of a set that could not all be read was its AUC."""
    assert "got a verdict" not in render_cross(crossed([folder], tmp_path / "whole"))
    shutil.copytree(folder, tmp_path / "torn")
    (tmp_path / "torn" / "real" / "anna_1.mp4").write_text("broken")
    found = crossed([folder, tmp_path / "torn"], tmp_path / "out")
    (line,) = (line for line in render_cross(found).splitlines() if "got a verdict" in line)
    assert line == "  not all files got a verdict: first on 2 torn (7 of 8), second on 2 torn (7 of 8)"


def test_nothing_drawn_is_no_interval(tmp_path: Path) -> None:
    (tmp_path / "set" / "real").mkdir(parents=True)
    (tmp_path / "set" / "real" / "a.mp4").write_text("broken")
    report = evaluated(tmp_path / "set", tmp_path / "out")
    assert report["drawn"]["over"] == "" and "as shipped; no intervals." in render(report) and report["learned"] == 0


def test_files_of_one_person_have_no_interval_and_none_is_promised(folder: Path, tmp_path: Path) -> None:
    """`95% intervals over people` stood below figures of which none had one."""
    for path in folder.rglob("bert_*"):
        path.unlink()
    report = evaluated(folder, tmp_path / "out", r"pattern:^([a-z]+)_")
    assert report["drawn"] == {"over": "", "people": 4, "source_videos": 0, "files": 0} and "as shipped; no intervals." in render(report)
    assert all(figure["low"] is None for figure in report["overall"].values() if isinstance(figure, dict))


def test_a_matrix_says_what_each_source_drew(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,identity\nset/real/anna_1.mp4,real,anna\nset/fake/gan/bert_1.mp4,fake,bert\n")
    assert "95% intervals over files: nobody says whose faces these are (--identity)." in render_cross(crossed([folder, folder], tmp_path / "out"))
    found = crossed([table, folder], tmp_path / "out")
    assert "on 1 table.csv 95% intervals over people; on 2 set 95% intervals over files: nobody says whose" in render_cross(found)
    assert [cell["drawn"]["over"] for cell in found["models"][0]["cells"]] == ["people", "files"]


def test_a_matrix_names_the_cells_whose_files_trained_the_model(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "new", {"real/carl.mp4": 0.2, "fake/gan/carl.mp4": 0.7})
    found = crossed([folder, tmp_path / "new"], tmp_path / "out")
    assert [[cell["learned"] for cell in row["cells"]] for row in found["models"]] == [[4, 0], [0, 0]]
    (line,) = (line for line in render_cross(found).splitlines() if "in its last training" in line)
    assert line.endswith(": first on 1 set (4 of 8)")


@pytest.mark.parametrize(("mark", "said"), [("starter", "first is the starter"), ("not promoted", "first is not promoted")])
def test_that_nobody_promoted_the_model_is_said_of_a_matrix_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, said: str) -> None:
    """Where there is no champion the starter stood in the table as one of this workspace, under the cycle that its card names."""
    monkeypatch.setattr("vigil.measuring.choose_model", lambda workspace, named: (Path("first"), mark))
    found = crossed([folder], tmp_path / "out", models=())
    assert f"  {said}" in render_cross(found).splitlines() and read_json(tmp_path / "out/cross.json")["models"][0]["mark"] == mark
    assert read_json(tmp_path / "out/first/1-set/evaluation.json")["mark"] == mark
    evaluated(folder, tmp_path / "alone")
    assert read_json(tmp_path / "alone/evaluation.json")["mark"] == mark
    named = crossed([folder], tmp_path / "named", models=("second",))
    assert named["models"][0]["mark"] == "" and "second is" not in render_cross(named)


def test_two_models_of_the_same_weights_are_two_rows_and_two_folders(folder: Path, tmp_path: Path, no_network: dict[str, Any]) -> None:
    """The second card's figures lay over the first one's."""
    no_network["third"] = model("first")
    no_network["third"].card.threshold = 0.85
    found = crossed([folder], tmp_path / "out", models=("first", "second", "third"))
    assert [(row["model"], row["folder"], row["threshold"]) for row in found["models"]] == [
        ("first", "first", 0.5), ("second", "second", 0.5), ("first-2", "third", 0.85)
    ]  # fmt: skip
    cells = [row["cells"][0]["accuracy"]["value"] for row in found["models"]]
    written = [read_json(tmp_path / "out" / row["model"] / "1-set" / "evaluation.json") for row in found["models"]]
    assert cells == [1.0, 1.0, 0.75] == [report["overall"]["accuracy"]["value"] for report in written]
    assert "first-2" in render_cross(found)


def test_a_promoted_model_that_is_not_here_is_named(folder: Path, tmp_path: Path, no_network: dict[str, Any]) -> None:
    """It had no row, and nobody said so; a damaged one is refused."""
    root, base = tmp_path / "w", ""
    (root / ".vigil").mkdir(parents=True)
    (root / "params.yaml").write_text(compose_params("demo"))
    for cycle in ("2026-W46.1", "2026-W47.1"):
        sha256, no_network[cycle] = make_model(root, cycle), model(cycle)
        promote(root, root / "models" / cycle, expected_champion_sha256=base, verdict=verdict_for(cycle, sha256, base), cycle=cycle, who="vigil", why="passed")
        base = sha256
    asked = ["evaluate", str(folder), "--cross", "-w", str(root), "--out", str(tmp_path / "out")]
    shutil.rmtree(root / "models/2026-W46.1")
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    named = "left out as not here: 2026-W46.1. In the workspace run `dvc pull models/2026-W46.1.dvc`"
    assert named in done.stdout and named in done.stderr and read_json(tmp_path / "out/cross.json")["not_here"] == ["2026-W46.1"]
    shutil.rmtree(root / "models/2026-W47.1")
    with pytest.raises(WorkspaceError, match=r"dvc pull models/2026-W46\.1\.dvc models/2026-W47\.1\.dvc`, or name models"):
        CliRunner().invoke(app, asked, catch_exceptions=False)


def test_an_evaluation_that_was_broken_off_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_network: dict[str, Any]
) -> None:
    """Hours of scoring were in memory alone: a full disk, a kill or Ctrl-C lost them all."""
    write(folder, {"real/broken.mp4": 0.0})
    (folder / "real/broken.mp4").write_text("broken")
    asked: list[tuple[str, list[str]]] = []

    def counting(engines: list[Any], path: Path, mode: str | None = None) -> list[FileVerdict]:
        if len(asked) == stop:
            raise KeyboardInterrupt
        if engines:
            asked.append((path.name, [engine.model_id for engine in engines]))
        return say(engines, path, mode)

    monkeypatch.setattr("model.inference.score_file_with", counting)
    monkeypatch.setattr("pipelines.measure.AT_ONCE", 1)
    stop = -1
    whole = crossed([folder], tmp_path / "whole")
    files = [name for name, _ in asked]
    asked, stop = [], 5
    with pytest.raises(KeyboardInterrupt):
        crossed([folder], tmp_path / "out")
    (journal,), done = (tmp_path / "out").glob("scored-*.jsonl"), [name for name, _ in asked if name != "broken.mp4"]
    assert len(journal.read_text().splitlines()) == 2 * len(done) > 0
    with open(journal, "a") as handle:
        handle.write('{"by": "torn')
    changed = next(path for path in folder.rglob("*.mp4") if path.name == done[0])
    changed.write_text(changed.read_text() + " " * 99)
    no_network["second"].card.threshold, asked, stop = 0.6, [], -1
    capsys.readouterr()
    found = crossed([folder], tmp_path / "out")
    assert found["models"][0] == whole["models"][0] and not journal.exists() and "Going on with" in capsys.readouterr().err
    assert (tmp_path / "out/first/1-set/predictions.csv").read_bytes() == (tmp_path / "whole/first/1-set/predictions.csv").read_bytes()
    again = [name for name, models in asked if "first" in models]
    assert len(asked) == len(files) == len(again) + len(done) - 1 and done[0] in again and "broken.mp4" in again, "of the other card all is asked anew"
    assert evaluated(folder, tmp_path / "out")["answered"]["of"] == len(files) and "Going on" not in capsys.readouterr().err


def test_an_evaluation_that_was_broken_off_goes_on_whatever_else_was_measured_meanwhile(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_network: dict[str, Any]
) -> None:
    """All kept what they had scored in one file of the folder of the figures, which is the same unless it is named, and the first that ended deleted it."""
    asked: list[str] = []

    def counting(engines: list[Any], path: Path, mode: str | None = None) -> list[FileVerdict]:
        if len(asked) == stop:
            raise KeyboardInterrupt
        asked.extend([path.name] * bool(engines))
        return say(engines, path, mode)

    monkeypatch.setattr("model.inference.score_file_with", counting)
    monkeypatch.setattr("pipelines.measure.AT_ONCE", 1)
    out, stop = tmp_path / "out", 5
    with pytest.raises(KeyboardInterrupt):
        evaluated(folder, out)
    stop, asked = -1, []
    write(tmp_path / "other", {"real/carl.mp4": 0.2, "fake/gan/carl.mp4": 0.7})
    evaluated(tmp_path / "other", out)
    crossed([folder], out, models=("second",))
    assert len(asked) == 2 + 8 and "Going on" not in capsys.readouterr().err, "nothing that the first run scored is of these"
    asked = []
    crossed([folder, tmp_path / "other"], out, models=("first",))
    assert len(asked) == 3 + 2 and "Going on with what was scored before: 5 of 8 files" in capsys.readouterr().err
    asked = []
    assert evaluated(folder, out)["answered"]["n"] == 8 and len(asked) == 3
    assert not list(out.glob("scored*")), "once its figures are there it is deleted"


def test_ctrl_c_keeps_the_files_that_it_waits_for_and_says_that_it_waits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two long videos were scored to their end, four minutes without a word, and thrown away."""
    labelled = read_labelled(SourceSettings(name="set", path=str(folder)))
    at_work, asked = threading.Barrier(3), []

    def slow(engines: list[Any], path: Path, mode: str | None = None) -> list[FileVerdict]:
        asked.append(str(path))
        if path in [found.path for found in labelled.files[1:3]]:
            at_work.wait(60)
        return say(engines, path, mode)

    def pause(done: int, total: int, what: str) -> None:
        at_work.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr("model.inference.score_file_with", slow)
    with pytest.raises(KeyboardInterrupt):
        measure([model()], labelled, [tmp_path / "out"], tell=pause, journal=tmp_path / "scored.jsonl")
    assert sorted(row["path"] for row in rows_of(tmp_path / "scored.jsonl")) == sorted(asked)
    assert "Ctrl-C again breaks them off" in capsys.readouterr().err


def test_in_another_mode_nothing_is_said_of_what_trained_the_model(folder: Path, tmp_path: Path, no_network: dict[str, Any]) -> None:
    report = evaluated(folder, tmp_path / "out", mode="dense")
    assert report["learned"] is None and "in mode dense, and trained in mode standard" in report["learned_unknown"]
    assert "not checked whether any of these files trained this model: looked at in mode dense" in render(report)
    with open(tmp_path / "out" / "predictions.csv", newline="") as handle:
        assert {row["learned"] for row in csv.DictReader(handle)} == {""}
    no_network["second"].card.faces.mode = "dense"
    found = crossed([folder], tmp_path / "out", mode="dense")
    assert [row["cells"][0]["learned"] for row in found["models"]] == [None, 0]
    (line,) = (line for line in render_cross(found).splitlines() if "not checked" in line)
    assert line.endswith(": first on 1 set")
    said = evaluated(folder, tmp_path / "out", mode="standard")
    assert said["learned"] == 4 and "  4 of these files trained this very model in its last training" in render(said)


def test_a_still_is_known_again_in_every_mode(folder: Path, tmp_path: Path) -> None:
    write(folder, {"real/anna.png": 0.1})
    report = evaluated(folder, tmp_path / "out", mode="dense")
    assert report["learned"] == 1 and "  at least 1 of these files" in render(report) and "whether others of these files" in render(report)
    for path in folder.rglob("*.mp4"):
        path.rename(path.with_suffix(".png"))
    report = evaluated(folder, tmp_path / "out", mode="dense")
    assert report["learned"] == 5 and report["learned_unknown"] == ""


def test_a_card_without_its_clips_cannot_say_what_trained_the_model(folder: Path, tmp_path: Path, no_network: dict[str, Any]) -> None:
    no_network["first"].card.train_clips = ()
    report = evaluated(folder, tmp_path / "out")
    assert report["learned"] is None and "card lists no training clips" in render(report)
    with open(tmp_path / "out" / "predictions.csv", newline="") as handle:
        assert {row["learned"] for row in csv.DictReader(handle)} == {""}, "of files without a verdict neither"


def test_a_table_may_name_its_columns_and_a_bucket_is_refused(folder: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(tmp_path)},{'fake' if '/fake/' in path.as_posix() else 'real'}" for path in sorted(folder.rglob("*.mp4"))]
    (tmp_path / "mine.csv").write_text("\n".join(["filename,truth", *rows]) + "\n")
    (source,) = measured_sources([str(tmp_path / "mine.csv")], "auto", "", [], ["path=filename", "label=truth"])
    report = evaluate_source(source, None, None, tmp_path / "out", "")
    assert report["overall"]["auc"]["value"] == 1.0 and report["overall"]["n_real"] == report["overall"]["n_fake"] == 4
    with pytest.raises(DataError, match="s3://past/set") as problem:
        measured_sources(["s3://past/set"], "auto", "", [], [])
    assert "this disk" in problem.value.why
