"""Whom a file without a name shows: the person in the video that it was made of, as a source's table tells. One answer for sets, gates and `vigil evaluate`."""

from collections.abc import Mapping, Sequence
from typing import Any

from workspace.manifest import composed

Row = Mapping[str, Any]


def people_by_video(samples: Sequence[Row]) -> dict[str, str]:
    """Whom a video shows, by its path or by the name that samples give it as their source; what the file itself says comes first, then who came first."""
    found: dict[str, str] = {}
    for column in ("path", "source_video"):
        for sample in samples:
            if sample["identity"] and sample[column]:
                found.setdefault(composed(sample[column]), composed(sample["identity"]))
    return found


def videos_by_file(samples: Sequence[Row]) -> dict[str, str]:
    """What each file was made of, by its path; of one path in several sources as the first says."""
    return {composed(sample["path"]): composed(sample["source_video"]) for sample in reversed(samples) if sample["source_video"]}


def first_known(video: str, people: Mapping[str, str], made_of: Mapping[str, str]) -> str:
    """The video among those that it was made of in which somebody is named; where nobody is, the one that all of it was made of."""
    met = set()
    while video not in people and video in made_of and video not in met:
        met.add(video)
        video = made_of[video]
    return video
