"""What stands on two sides of the finished tables. Knows nothing of how they were split, so that it can find a mistake in that."""

from collections.abc import Iterable, Mapping
from typing import Any

from workspace.manifest import composed

# What two sides must not share: the name of the kind, and the columns that hold it.
SHARED = {
    "person": ("identity", "donor"),
    "person shown": ("cluster",),
    "sample": ("sample_id",),
    "source video": ("source_video",),
    "clip": ("clip_id", "source_clip", "donor_clip"),
    "pixels": ("sha256",),
}


def find_leaks(tables: Mapping[str, Iterable[Mapping[str, Any]]], looks: Mapping[str, Iterable[str]], paths: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every person, sample, source video, clip, picture or look on more than one side, and every row that its `use` keeps from where it stands.

    `tables` are the rows of the sides by name; `looks` gives the groups of lookalikes of a sample id, `paths` its file: a fake whose
    source video is a file on another side is a leak too.
    """
    tables = {side: list(rows) for side, rows in tables.items()}
    files = {(composed(paths.get(row["sample_id"], "")), side) for side, rows in tables.items() for row in rows}
    met: dict[tuple[str, str], set[str]] = {}
    misused: list[dict[str, Any]] = []
    for side, rows in tables.items():
        for row in rows:
            for kind, columns in SHARED.items():
                for column in columns:
                    if row[column]:
                        met.setdefault((kind, composed(str(row[column]))), set()).add(side)
            for look in looks.get(row["sample_id"], [row["sample_id"]]):
                met.setdefault(("look", look), set()).add(side)
            if video := composed(row["source_video"]):
                met[("source video", video)] |= {other for other in tables if (video, other) in files}
            if row["use"] == "never" or (row["use"] == "evaluate" and side != "holdout") or not row["label"]:
                misused.append({"kind": "use", "key": row["clip_id"], "sides": [side]})
    shared = [{"kind": kind, "key": key, "sides": sorted(sides)} for (kind, key), sides in sorted(met.items()) if len(sides) > 1]
    return [*shared, *misused]
