"""The drill of benchmarks/uploads.py at a small size: a real service, real people, real SIGKILLs."""

from pathlib import Path

from benchmarks.uploads import run, workspace
from tests.size import drill


def test_nothing_accepted_is_lost_and_nothing_reviewed_is_handed_over_twice_whatever_is_killed(
    tmp_path: Path, models: tuple[Path, Path], clip: bytes, picture: bytes
) -> None:
    uploads, kills = drill(12, 24), drill(3, 6)
    found = run(workspace(tmp_path / "workspace"), models[0], [picture, picture, clip], uploads=uploads, kills=kills, seed=4)
    assert found["accepted"] == found["detections"] == uploads and found["lost"] == 0, found
    assert found["settled"] > 0 and found["reviews_lost"] == 0, found
    assert found["taken"] == found["settled"] and found["twice"] == found["never_taken"] == found["wrong_label"] == 0, found
    assert found["audit_entries"] > drill(50, 100) and found["audit_broken_at"] == 0, found
    assert sum(found["kills"].values()) == kills
