"""Reviewed cases reach training once, whatever is killed on the way."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from feedback.handover import export_reviewed, mark_ingested, media_suffix, source, waiting
from feedback.store import AlreadyReviewed, FeedbackStore
from tests.feedback.killing import killed_at_line
from workspace.errors import DataError
from workspace.files import atomic_file, sha256_bytes

JPEG = b"\xff\xd8\xff\xe0"


def add_case(root: Path, content: bytes) -> str:
    """One uncertain detection of `content`; returns its case id."""
    upload = root / "upload.part"
    upload.parent.mkdir(parents=True, exist_ok=True)
    upload.write_bytes(content)
    store = FeedbackStore(root)
    answer = {"verdict": "uncertain", "p_fake": 0.5, "kind": "image", "model_sha256": "a" * 64, "reason": ""}
    case_id = store.add_detection(answer, upload, sha256_bytes(content), len(content))["case_id"]
    store.close()
    upload.unlink()
    return str(case_id)


def review(root: Path, case_id: str, label: str, identity: str = "") -> None:
    store = FeedbackStore(root)
    assert store.review(case_id, label, "ann", identity=identity) is not None  # type: ignore[arg-type]
    store.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with four reviewed cases (two fake, one real, one unsure) and an open one."""
    root = tmp_path / "workspace"
    for number, label in enumerate(["fake", "real", "fake", "unsure", ""]):
        case_id = add_case(root, JPEG + bytes([number]) * 50)
        if label:
            review(root, case_id, label, identity="ann, b." if label == "real" else "")
    return root


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "labels.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def take(root: Path) -> None:
    """What the flow does: export, take in by content hash (each sample once), confirm. Stands for `ingest` where every line is killed."""
    taken_path = root / "taken.json"
    taken = json.loads(taken_path.read_text()) if taken_path.exists() else {}
    folder = export_reviewed(root)
    if folder is not None:
        for row in rows_of(folder):
            taken.setdefault(sha256_bytes((folder / row["path"]).read_bytes()), row)
        with atomic_file(taken_path) as handle:
            json.dump(taken, handle)
    mark_ingested(root, list(taken))


def taken(root: Path) -> list[tuple[str, str]]:
    return sorted((row["case_id"], row["label"]) for row in json.loads((root / "taken.json").read_text()).values())


def test_only_real_and_fake_reviews_are_handed_over_and_every_column_is_there(root: Path) -> None:
    folder = export_reviewed(root)
    assert folder is not None
    rows = rows_of(folder)
    assert sorted(row["label"] for row in rows) == ["fake", "fake", "real"]
    for row in rows:
        assert row["use"] == "train" and row["kind"] == "image" and row["source"] == "feedback" and row["case_id"]
        assert row["generator"] == ("reported" if row["label"] == "fake" else "")
        assert row["identity"] == ("ann, b." if row["label"] == "real" else "")
        assert row["path"] == sha256_bytes((folder / row["path"]).read_bytes()) + ".jpg"
    assert source(folder).identity.rule == "column" and source(folder).path.endswith("labels.csv")


def test_exporting_twice_gives_the_same_folder_and_marking_closes_it(root: Path) -> None:
    first = export_reviewed(root)
    assert first is not None and export_reviewed(root) == first and waiting(root) == 3
    samples = [row["path"][:64] for row in rows_of(first)]
    assert mark_ingested(root, samples) == 3
    assert mark_ingested(root, samples) == 0
    assert waiting(root) == 0 and export_reviewed(root) is None and not first.exists()


def test_what_ingest_did_not_confirm_comes_again_with_what_is_new(root: Path) -> None:
    first = export_reviewed(root)
    assert first is not None
    confirmed, *rest = (row["path"][:64] for row in rows_of(first))
    assert mark_ingested(root, [confirmed]) == 1
    late = JPEG + b"late"
    review(root, add_case(root, late), "fake")
    second = export_reviewed(root)
    assert second is not None and second != first and not first.exists()
    assert sorted(row["path"][:64] for row in rows_of(second)) == sorted([*rest, sha256_bytes(late)])


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    assert export_reviewed(tmp_path) is None and mark_ingested(tmp_path, ["a" * 64]) == 0 and waiting(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_lost_media_stop_the_hand_over_and_say_which(root: Path) -> None:
    kept = sorted((root / ".vigil/cases").iterdir())
    for path in kept:
        path.unlink()
    with pytest.raises(DataError, match="are gone"):
        export_reviewed(root)
    assert waiting(root) == 3


def test_sigkill_before_any_line_neither_loses_nor_doubles_a_label(root: Path, tmp_path: Path) -> None:
    expected = None
    for number in range(1, 10_000):
        copy = tmp_path / "copy"
        shutil.copytree(root, copy)
        killed = killed_at_line(number, lambda copy=copy: take(copy))
        take(copy)
        expected = expected or taken(copy)
        assert taken(copy) == expected and len(expected) == 3, f"killed at line {number}"
        assert waiting(copy) == 0 and list((copy / ".vigil/outbox").iterdir()) == [], f"killed at line {number}"
        shutil.rmtree(copy)
        if not killed:
            break
    assert number > 60, "the drill hardly killed anything"


def test_sigkill_in_a_review_leaves_the_whole_review_or_none(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    case_id = add_case(fresh, JPEG + b"one")
    outcomes = set()
    for number in range(1, 1000):
        copy = tmp_path / "copy"
        shutil.copytree(fresh, copy)
        killed = killed_at_line(number, lambda copy=copy: review(copy, case_id, "fake"))
        store = FeedbackStore(copy)
        case = store.case(case_id)
        assert case is not None
        outcomes.add(case["state"])
        assert (case["state"], bool(case["review"]), case["handover"], len(store.not_ingested())) in {
            ("open", False, "", 0),
            ("reviewed", True, "waiting", 1),
        }, f"killed at line {number}"
        store.close()
        shutil.rmtree(copy)
        if not killed:
            break
    assert outcomes == {"open", "reviewed"}


def test_a_second_review_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    case_id = add_case(tmp_path, JPEG + b"one")
    review(tmp_path, case_id, "fake")
    store = FeedbackStore(tmp_path)
    with pytest.raises(AlreadyReviewed):
        store.review(case_id, "real", "bob")
    case = store.case(case_id)
    assert case is not None and case["review"]["label"] == "fake" and case["review"]["reviewer"] == "ann"
    assert store.review("no-such-case", "real", "bob") is None
    store.close()


def test_the_same_file_again_joins_its_case(tmp_path: Path) -> None:
    assert add_case(tmp_path, JPEG + b"one") == add_case(tmp_path, JPEG + b"one") != add_case(tmp_path, JPEG + b"two")
    store = FeedbackStore(tmp_path)
    first, second = store.cases("open")
    assert store.cases("open", after=first["number"]) == [second] and store.cases("reviewed") == []
    found = store.case(first["id"])
    assert found is not None and len(found["detections"]) == 2
    store.close()


@pytest.mark.parametrize(("head", "suffix"), [(JPEG, ".jpg"), (b"\x89PNG\r\n", ".png"), (b"\0\0\0\x20ftypisom", ".mp4"), (b"", ".bin"), (b"what", ".bin")])
def test_the_ending_comes_from_the_content(tmp_path: Path, head: bytes, suffix: str) -> None:
    (tmp_path / "media").write_bytes(head)
    assert media_suffix(tmp_path / "media") == suffix
