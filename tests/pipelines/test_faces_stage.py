"""The faces stage on rendered media, and the processes it spreads over."""

import shutil
from pathlib import Path

import pytest

from media.faces import Extraction
from media.shards import read_clip_at, read_index
from pipelines import faces
from pipelines.ingest import ingest
from tests.pipelines.small_world import FRAMES, SIZE, demo_settings
from workspace.errors import DataError
from workspace.files import read_json
from workspace.manifest import read_manifest
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
