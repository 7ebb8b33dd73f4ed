"""From what the network said of clips to what a detection shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.work.judging import forged_intervals
from media.faces import windows
from tests.pipelines.small_world import demo_settings

FACES = demo_settings().faces


def looked_at(mode: str, seconds: float, p_fake: float = 0.9) -> list[dict[str, float]]:
    """One face's clips of a video of this length, as a mode takes them."""
    faces = FACES.model_copy(update={"mode": mode, "clips_per_video": 6, "clip_frames": 8, "fps": 15.0})
    return [{"track": 0, "start_seconds": times[0], "end_seconds": times[-1], "p_fake": p_fake} for times in windows(seconds, faces)]


def test_time_that_nobody_looked_at_is_called_forged_by_nobody() -> None:
    """Of a minute six half-seconds are looked at in mode standard: they were told, and signed, as one interval of fifty seconds."""
    clips = looked_at("standard", 60.0)
    found = forged_intervals(clips, 0.7)
    assert [(one["start_seconds"], one["end_seconds"]) for one in found] == [(one["start_seconds"], one["end_seconds"]) for one in clips] and len(found) == 6


@pytest.mark.parametrize("mode", ["dense", "fast"])
def test_clips_that_follow_one_another_are_one_interval(mode: str) -> None:
    clips = looked_at(mode, 20.0)
    (found,) = forged_intervals(clips, 0.7)
    assert len(clips) > 1 and (found["start_seconds"], found["end_seconds"]) == (clips[0]["start_seconds"], clips[-1]["end_seconds"])
    away = [one for one in clips if not 5 < one["start_seconds"] < 12]
    assert len(forged_intervals(away, 0.7)) == 2, "the face was away between"


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.floats(0, 1)), max_size=12))
def test_intervals_hold_each_clip_above_the_threshold_and_no_other_one(made: list[tuple[int, int, float]]) -> None:
    places = {(track, place): p_fake for track, place, p_fake in made}
    clips = [{"track": t, "start_seconds": place * 0.6, "end_seconds": place * 0.6 + 0.5, "p_fake": p_fake} for (t, place), p_fake in places.items()]
    found = forged_intervals(clips, 0.5)
    for clip in clips:
        inside = [
            one
            for one in found
            if one["track"] == clip["track"] and one["start_seconds"] <= clip["start_seconds"] and clip["end_seconds"] <= one["end_seconds"]
        ]
        assert len(inside) == (clip["p_fake"] >= 0.5)
        assert all(one["p_fake"] >= clip["p_fake"] for one in inside)
    assert sum(one["end_seconds"] - one["start_seconds"] for one in found) <= sum(0.6 for clip in clips if clip["p_fake"] >= 0.5) + 1e-9
