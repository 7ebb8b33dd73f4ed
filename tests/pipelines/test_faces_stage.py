"""The faces stage on rendered media, and the processes it spreads over."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from media.faces import Extraction
from media.shards import read_clip_at, read_index
from pipelines import faces
from pipelines.ingest import ingest
from tests.pipelines.small_world import FRAMES, SIZE, demo_settings
from workspace.errors import DataError
from workspace.files import read_json
from workspace.manifest import read_manifest, write_manifest
from workspace.pool import ordered_map
from workspace.settings import FaceSettings, IdentityRule, SourceSettings


def test_every_sample_gives_clips_that_keep_what_the_manifest_says(sample_workspace: Path) -> None:
    index = read_index(sample_workspace / "data" / "faces" / "w1")
    manifest = read_manifest(sample_workspace / "data" / "raw" / "w1").set_index("sample_id")
    assert set(index["sample_id"]) == set(manifest.index), "the detector finds every rendered face"
    for row in index.to_dict("records"):
        known = manifest.loc[row["sample_id"]]
        assert all(row[name] == known[name] for name in faces.ABOUT)
        assert row["clip_id"] == f"{row['sample_id'][:16]}-t{row['track']}-c0" and row["origin"] == "collected" and row["frames"] <= FRAMES
        assert read_clip_at(sample_workspace / "data" / "faces" / "w1", row, verify=True).shape[1:] == (SIZE, SIZE, 3)
    report = read_json(sample_workspace / "data" / "faces" / "w1" / "report.json")
    assert report["with_face"] == report["looked_at"] == report["decoded"] == 18 and report["clips"] == len(index)
    assert all(sample["width"] > 0 and sample["frames_seen"] > 0 for sample in report["samples"])


def test_the_number_of_processes_changes_no_byte(workspace_copy: Path, sample_workspace: Path) -> None:
    faces.run(workspace_copy, demo_settings({"faces": {"workers": 1}}), "w1")
    one, other = (sorted((root / "data" / "faces" / "w1").iterdir()) for root in (workspace_copy, sample_workspace))
    assert [path.name for path in one] == [path.name for path in other]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_a_batch_whose_process_was_killed_goes_on_where_it_was_and_ends_with_the_same_bytes(
    workspace_copy: Path, sample_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set of a hundred thousand videos takes a day: it began anew after each Ctrl-C."""
    one_by_one = (
        "import sys; from pathlib import Path; from pipelines import faces; faces.KEEP_SECONDS = 0; from tests.pipelines.small_world import demo_settings"
    )
    work = f"{one_by_one}; faces.run(Path(sys.argv[1]), demo_settings({{'faces': {{'workers': 1}}}}), 'w1')"
    begun = workspace_copy / faces.UNFINISHED / "w1"
    with subprocess.Popen([sys.executable, "-c", work, workspace_copy], stderr=subprocess.DEVNULL) as process:
        while not (begun / "kept-000003.parquet").exists():
            assert process.poll() is None, "it ended, or failed, before four files were kept"
            time.sleep(0.01)
        process.kill()
    files = len(list(begun.glob("kept-*.parquet")))
    handed_out = _handed_out(monkeypatch)
    report = faces.run(workspace_copy, demo_settings(), "w1")
    assert handed_out == [18 - files] and not begun.exists() and report == read_json(sample_workspace / "data" / "faces" / "w1" / "report.json")
    assert "18/18" in capsys.readouterr().err
    one, other = ({path.name: path.read_bytes() for path in (root / "data" / "faces" / "w1").iterdir()} for root in (workspace_copy, sample_workspace))
    assert one == other


def _handed_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each later run gives its processes, as these begin."""
    numbers: list[int] = []

    def counting(function: Any, jobs: Sequence[Any], *more: Any) -> Any:
        numbers.append(len(jobs))
        return ordered_map(function, jobs, *more)

    monkeypatch.setattr(faces, "ordered_map", counting)
    return numbers


@pytest.mark.parametrize("change", ["settings", pytest.param("labels", marks=pytest.mark.slow)])
def test_what_was_cut_by_other_settings_or_under_other_labels_is_not_gone_on_from(workspace_copy: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    def stops(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(faces, "KEEP_SECONDS", 0)
    monkeypatch.setattr(faces, "Progress", lambda *_, **__: stops)
    with pytest.raises(KeyboardInterrupt):
        faces.run(workspace_copy, demo_settings(), "w1")
    monkeypatch.undo()
    assert len(list((workspace_copy / faces.UNFINISHED / "w1").glob("kept-*.parquet"))) == 1
    settings = demo_settings({"faces": {"min_score": 0.45}} if change == "settings" else {})
    if change == "labels":
        table = read_manifest(folder := workspace_copy / "data" / "raw" / "w1")
        write_manifest(table.assign(source="elsewhere"), folder)
    handed_out = _handed_out(monkeypatch)
    faces.run(workspace_copy, settings, "w1")
    index = read_index(workspace_copy / "data" / "faces" / "w1")
    assert handed_out == [18] and index["sample_id"].nunique() == 18 and ("elsewhere" in set(index["source"])) == (change == "labels")


def test_a_sample_without_a_clip_has_its_reason_in_the_report(tmp_path: Path, sample_media: Path) -> None:
    media = tmp_path / "media"
    (media / "real").mkdir(parents=True)
    good, never, blank = (media / "real" / name for name in ("good.mp4", "never.mp4", "blank.png"))
    takes = sorted((sample_media / "real").glob("*.mp4"))
    shutil.copy(takes[0], good)
    shutil.copy(takes[1], never)
    import cv2
    import numpy as np

    cv2.imwrite(str(blank), np.full((200, 200, 3), 90, np.uint8))
    (media / "real" / "empty.mp4").touch()
    (media / "labels.csv").write_text(
        "path,label,use\n" + "".join(f"real/{n},real,{u}\n" for n, u in (("good.mp4", ""), ("never.mp4", "never"), ("blank.png", ""), ("empty.mp4", "")))
    )
    root, settings = tmp_path / "workspace", demo_settings()
    ingest(root, settings, [SourceSettings(name="press", path=str(media), identity=IdentityRule(rule="file"))], batch="w1")
    report = faces.run(root, settings, "w1")
    reasons = {sample["path"]: sample["reason"] for sample in report["samples"]}
    assert reasons == {"real/good.mp4": "", "real/never.mp4": "use is never", "real/blank.png": "no face found", "real/empty.mp4": "empty file"}
    assert set(read_index(root / "data" / "faces" / "w1")["use"]) == {"train"}


def test_media_that_are_no_longer_what_the_manifest_says_are_named(workspace_copy: Path) -> None:
    shard = workspace_copy / "data" / "raw" / "w1" / "media-000.tar"
    content = bytearray(shard.read_bytes())
    row = read_manifest(shard.parent).iloc[0]
    content[row["offset"] + 100] ^= 255
    shard.write_bytes(content)
    report = faces.run(workspace_copy, demo_settings({"faces": {"workers": 1}}), "w1")
    assert next(sample for sample in report["samples"] if sample["sample_id"] == row["sample_id"])["reason"].startswith("the content is not that of sample")
    assert report["with_face"] == 17


def test_a_file_that_breaks_the_reader_in_a_way_nobody_listed_has_a_reason(sample_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One such file ended every cycle with a traceback that did not name it, and no other came in."""

    def broken(source: bytes, settings: FaceSettings) -> Extraction:
        raise OverflowError("a time stamp beyond all numbers")

    monkeypatch.setattr("media.faces.extract_clips", broken)
    folder = sample_workspace / "data" / "raw" / "w1"
    row = read_manifest(folder).iloc[0]
    job = faces.FaceJob(folder, row["sample_id"], row["shard"], int(row["offset"]), int(row["bytes"]), FaceSettings())
    assert faces._extract(job) == "could not be read: OverflowError: a time stamp beyond all numbers"


def test_a_batch_that_is_not_there_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Next:"):
        faces.run(tmp_path, demo_settings(), "nowhere")
