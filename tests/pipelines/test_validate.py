"""Great Expectations decides whether a batch comes in: a sound one passes, and each kind of broken row is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines import validate
from pipelines.validate import checks_of, judge
from tests.pipelines.small_world import demo_settings
from workspace.errors import DataError
from workspace.files import read_json
from workspace.for_review import TWO_LABELS
from workspace.manifest import MANIFEST_COLUMNS, read_manifest, write_manifest
from workspace.settings import ValidateSettings

Table = pd.DataFrame
Samples = list[dict[str, Any]]


def batch(number: int = 10) -> tuple[Table, Samples]:
    """A sound batch: as many real as fake."""
    rows, samples = [], []
    for index in range(number):
        sample_id = f"{index:064x}"
        fake = index % 2 == 1
        row = dict.fromkeys(MANIFEST_COLUMNS, "") | {
            "sample_id": sample_id, "batch": "w1", "path": f"v/{index}.mp4", "kind": "video", "label": "fake" if fake else "real", "use": "train",
            "identity": f"p{index}", "donor": f"p{index - 1}" if fake else "", "generator": "gan" if fake else "", "source": "press", "bytes": 9, "offset": 0,
        }  # fmt: skip
        rows.append(row)
        samples.append({"sample_id": sample_id, "decoded": True, "clips": 1, "width": 320, "height": 240, "reason": ""})
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)), samples


def verdict(table: Table, samples: Samples, **limits: float) -> dict[str, Any]:
    return judge(table, samples, demo_settings({"validate": limits}).validate_)


def failed(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in report["expectations"] if not one["success"]}


def test_a_sound_batch_passes_every_expectation() -> None:
    report = verdict(*batch())
    assert report["success"] and report["n"] == 10 and len(report["expectations"]) == 13
    assert not failed(report) and all(one["failing_count"] == 0 for one in report["expectations"])


def test_files_that_wait_for_a_person_are_none_that_cannot_be_decoded() -> None:
    """A tenth of them under two labels, and the whole batch was refused as undecodable, for good."""
    table, samples = batch()
    disputed = table.index[:4]
    table.loc[disputed, "quarantine"] = f"{TWO_LABELS} (real: a.mp4, fake: b.mp4)"
    left = [one for one in samples if one["sample_id"] not in set(table.loc[disputed, "sample_id"])]
    assert verdict(table, left)["success"]
    table.loc[disputed, "quarantine"] = "truncated or corrupt"
    assert "media decode" in failed(verdict(table, left))


def spoil(column: str, value: object, row: int = 3) -> Callable[[Table, Samples], None]:
    def change(table: Table, samples: Samples) -> None:
        if column in table.columns:
            table.loc[row, column] = value
        else:
            samples[row][column] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "failing"),
    [
        ("label is a known word", spoil("label", "1"), [3]),
        ("use is a known word", spoil("use", "maybe"), [3]),
        ("kind is a known word", spoil("kind", "sound"), [3]),
        ("sample id is unique", spoil("sample_id", f"{2:064x}"), [2, 2]),
        ("nobody swapped with themselves", spoil("donor", "p3"), [3]),
        ("a real has no generator and no donor", spoil("generator", "gan", row=4), [4]),
    ],
)
def test_one_broken_row_makes_the_batch_fail_and_is_named(name: str, change: Callable[[Table, Samples], None], failing: list[int]) -> None:
    table, samples = batch()
    change(table, samples)
    report = verdict(table, samples)
    assert not report["success"]
    assert failed(report)[name]["failing"] == [f"{index:064x}" for index in failing]
    assert list(failed(report)) == [name]


@pytest.mark.parametrize(
    ("name", "limits", "column", "value", "still_fine"),
    [
        ("media decode", {"min_decodable": 0.8}, "decoded", False, 2),
        ("a face is found in enough frames for a clip", {"min_face_found": 0.6}, "clips", 0, 4),
        ("not seen before", {"max_duplicates": 0.3}, "duplicate_of", f"{9:064x}", 3),
        ("pictures are large enough", {"min_decodable": 0.8, "min_size_px": 64}, "height", 40, 1),
        ("pictures are large enough", {"min_decodable": 0.0, "min_size_px": 64}, "height", 40, 1),  # a source of many broken files may not send thumbnails
        ("pictures are large enough", {"min_decodable": 1.0, "min_size_px": 64}, "height", 40, 1),
    ],
)
def test_a_share_holds_up_to_its_limit_and_not_beyond(name: str, limits: dict[str, float], column: str, value: object, still_fine: int) -> None:
    for broken, expected in ((still_fine, True), (still_fine + 1, False)):
        table, samples = batch()
        for row in range(broken):
            spoil(column, value, row)(table, samples)
        report = verdict(table, samples, **limits)
        result = next(one for one in report["expectations"] if one["name"] == name)
        assert result["success"] is expected and result["failing_count"] == broken
        assert result["observed"] == pytest.approx(1 - broken / 10)
        assert report["success"] is expected


def test_what_holds_a_batch_names_the_setting_that_it_goes_by() -> None:
    """A batch of copies was held again however often it was accepted, and nothing said by which setting."""
    assert {check.setting for check in checks_of(demo_settings().validate_)} - {""} == ValidateSettings.model_fields.keys()
    told = {one["name"]: one.get("setting") for one in verdict(*batch())["expectations"]}
    assert told["not seen before"] == "max_duplicates" and told["sample id is unique"] is None


@pytest.mark.parametrize(("number", "most"), [(10, 0.7), (20, 0.7), (20, 0.85), (25, 0.84), (50, 0.42)])
def test_as_many_duplicates_as_the_settings_allow_are_allowed(number: int, most: float) -> None:
    """Exactly seventy percent of ten were refused at a limit of 0.7: 1 - 0.7 is 0.30000000000000004."""
    table, samples = batch(number)
    table.loc[table.index[: round(most * number)], "duplicate_of"] = "f" * 64
    report = verdict(table, samples, max_duplicates=most)
    assert "not seen before" not in failed(report)
    assert next(one["limit"] for one in report["expectations"] if one["name"] == "not seen before") == round(1 - most, 2)


def test_why_files_gave_no_clip_stands_beside_the_check() -> None:
    """Clips of half a second were held with 'a face is found (observed 0.0)', though one was found in every frame of them."""
    table, samples = batch()
    for row, reason in enumerate(["too few frames with a face"] * 3 + ["no face found"] * 2):
        samples[row] |= {"clips": 0, "reason": reason}
    samples[9] |= {"decoded": False, "clips": 0, "reason": "truncated or corrupt"}
    report = failed(verdict(table, samples, min_decodable=1.0))
    assert {name: one["reasons"] for name, one in report.items()} == {
        "media decode": {"truncated or corrupt": 1},
        "a face is found in enough frames for a clip": {"too few frames with a face": 3, "no face found": 2},
    }


def test_too_few_samples_fail_and_a_missing_column_fails() -> None:
    table, samples = batch(3)
    assert list(failed(verdict(table, samples, min_samples=4))) == ["enough samples"]
    table, samples = batch()
    assert "columns of the manifest" in failed(verdict(table.drop(columns="licence"), samples))


def test_an_empty_batch_fails() -> None:
    table, samples = batch(0)
    assert not verdict(table, samples)["success"]


def test_notes_between_the_media_are_no_sign_of_corrupt_media_but_cut_videos_are() -> None:
    table, samples = batch()
    for row in (0, 1, 2):
        table.loc[row, ["quarantine", "path"]] = [("not a media file", "empty file")[row % 2], f"notes{row}.txt"]
        samples[row] |= {"decoded": False, "clips": 0}
    assert verdict(table, samples)["success"]
    for suffixes in ((".mp4", ".mp4", ".mp4"), (".flv", ".wmv", ".ogv"), (".avif", ".heif", ".jfif")):
        table.loc[[0, 1, 2], "path"] = [f"v/cut{row}{suffix}" for row, suffix in enumerate(suffixes)]
        assert "media decode" in failed(verdict(table, samples)), suffixes


@pytest.mark.parametrize(
    ("reason", "opened"),
    [
        ("not at a place of FaceForensics++", False), ("not in metadata.json", False), ("its name does not say who is in it", False), ("file not found", False),
        ("an archive; unpack it", False), ("broken link", False), ("unreadable folder", False), ("file too big", False), ("a folder has its name", False),
        ("not a media file", True), ("no video stream", True), ("picture too large", True), ("unreadable (OSError)", True), ("unreadable (AccessDenied)", True),
    ],
)  # fmt: skip
def test_only_what_was_opened_can_be_media_that_do_not_decode(reason: str, opened: bool) -> None:
    """A tenth of a data set beside its places, or missing, held the batch as one of corrupt media, though each video of it decodes."""
    table, samples = batch()
    for row in (0, 1, 2):
        table.loc[row, "quarantine"] = reason
        samples[row] |= {"decoded": False, "clips": 0}
    assert list(failed(verdict(table, samples))) == (["media decode"] if opened else [])


def test_a_sample_that_the_faces_stage_never_saw_counts_as_not_decoded() -> None:
    table, samples = batch()
    report = verdict(table, samples[:5])
    assert failed(report)["media decode"]["failing_count"] == 5


def test_the_stage_writes_what_it_judged_and_a_broken_batch_flips_it(workspace_copy: Path) -> None:
    report = validate.run(workspace_copy, demo_settings(), "w1")
    assert report["success"] and report == read_json(workspace_copy / "reports" / "validate" / "w1.json")
    folder = workspace_copy / "data" / "raw" / "w1"
    table = read_manifest(folder)
    table.loc[table["label"] == "real", "donor"] = "somebody"
    write_manifest(table, folder)
    assert not validate.run(workspace_copy, demo_settings(), "w1")["success"]
    (workspace_copy / "data" / "faces" / "w1" / "report.json").unlink()
    with pytest.raises(DataError, match="faces of batch w1"):
        validate.run(workspace_copy, demo_settings(), "w1")
