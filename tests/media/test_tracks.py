"""Who is who: faces from frame to frame within a window, and people across windows and cuts."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from media.tracks import ALIKE_HERE, Appearance, Sighting, Tracker, link, mean_look
from media.tracks import look as look_of


def look(likeness: float) -> np.ndarray:
    """A look whose correlation with that of likeness 1 is `likeness`."""
    vector = np.zeros(256, np.float32)
    vector[:2] = likeness, np.sqrt(1 - likeness**2)
    return vector


def sighting(step, x=100.0, side=80.0, likeness=1.0, apart=0.1, scene=0.0, edges=None):
    nothing, seen = np.zeros(2), (look(likeness), look(likeness if edges is None else edges))
    part, thumbnail = np.zeros((1, 1, 3), np.uint8), np.full((16, 16, 3), scene, np.float32)
    return Sighting(step, step * apart, None, np.array([x, 100.0, side, 0.0]), (640, 360), *seen, part, nothing, nothing, thumbnail)


def followed(*frames, change=0.0, gap=2):
    """Where each tracklet was seen, frame by frame."""
    tracker = Tracker(gap)
    for sightings in frames:
        tracker.add(sightings, change)
    return sorted([one.place[0] for one in tracklet.sightings] for tracklet in tracker.end())


def test_each_face_goes_on_as_the_nearest_one_and_no_face_is_two():
    assert followed([sighting(0, 100), sighting(0, 130)], [sighting(1, 128), sighting(1, 102)]) == [[100, 102], [130, 128]]
    assert followed([sighting(0, 100), sighting(0, 130)], [sighting(1, 112)]) == [[100, 112], [130]]
    assert followed([sighting(0, 100)], [sighting(1, 110), sighting(1, 95)]) == [[100, 95], [110]]


@pytest.mark.parametrize(("apart", "moved", "same"), [(0.1, 0.59, True), (0.1, 0.61, False), (1.0, 1.49, True), (1.0, 1.51, False), (5.0, 1.51, False)])
def test_how_far_a_face_may_move_grows_with_time_up_to_a_second(apart, moved, same):
    assert len(followed([sighting(0, apart=apart)], [sighting(1, 100 + 80 * moved, apart=apart)])) == (1 if same else 2)


@pytest.mark.parametrize(("side", "same"), [(127, True), (129, False), (51, True), (49, False)])
def test_a_face_that_is_much_larger_or_smaller_at_once_is_another(side, same):
    assert len(followed([sighting(0, side=80)], [sighting(1, side=side)])) == (1 if same else 2)


@pytest.mark.parametrize(("likeness", "change", "same"), [(0.55, 0.0, True), (0.45, 0.0, False), (0.6, 0.1, False), (0.7, 0.1, True)])
def test_who_looks_otherwise_in_the_same_place_is_another_the_sooner_where_the_picture_changed(likeness, change, same):
    assert len(followed([sighting(0)], [sighting(1, likeness=likeness)], change=change)) == (1 if same else 2)


@pytest.mark.parametrize(
    ("likeness", "edges", "scene", "same"),
    [
        (0.55, 0.25, 0.08, True), (0.40, 0.25, 0.0, False),  # of the same scene
        (0.75, 0.65, 0.12, True), (0.75, 0.55, 0.12, False),  # of another
    ],
)  # fmt: skip
def test_a_face_a_second_later_is_weighed_as_one_of_another_window(likeness, edges, scene, same):
    """As from frame to frame, a head that turned while one frame a second was looked at became others, each too short for a clip."""
    for apart, step in ((1.0, 1), (0.4, 1), (1.0, 3)):
        assert len(followed([sighting(0, apart=apart)], [sighting(step, 100, 80, likeness, apart, scene, edges)], change=0.08)) == (1 if same else 2)


def test_frames_that_lie_close_stay_neighbours_across_a_gap():
    for apart, same in ((0.2, False), (0.4, True)):
        assert len(followed([sighting(0, apart=apart)], [sighting(3, likeness=0.45, apart=apart)])) == (1 if same else 2)


@pytest.mark.parametrize(("step", "same"), [(3, True), (4, False)])
def test_a_face_that_was_away_for_longer_than_the_gap_begins_anew(step, same):
    assert len(followed([sighting(0)], [sighting(step)], gap=2)) == (1 if same else 2)


def test_only_who_came_late_in_a_window_and_is_still_there_goes_on_in_the_next():
    tracker = Tracker(1)
    for step in range(8):
        late, gone = [sighting(step, 400)] if step >= 6 else [], [sighting(step, 600)] if step == 5 else []
        tracker.add([sighting(step), *late, *gone])
    ended = tracker.over(8, 3)
    assert sorted((one.sightings[0].place[0], len(one.sightings)) for one in ended) == [(100, 8), (600, 1)], "with enough for a clip, or gone"
    tracker.add([sighting(0, 400)])
    (late,) = tracker.end()
    assert [one.step for one in late.sightings] == [-2, -1, 0]


def test_a_face_that_has_just_enough_for_a_clip_ends_with_its_window():
    tracker = Tracker(1)
    for step in range(3):
        tracker.add([sighting(step)])
    assert len(tracker.over(3, 3)) == 1 and not tracker.end()


def seen(start, likeness=1.0, x=100.0, scene=0.0, side=80.0, end=None, last_scene=None):
    first, last = (np.full((16, 16, 3), value, np.float32) for value in (scene, scene if last_scene is None else last_scene))
    return Appearance(start, start + 1 if end is None else end, np.array([x, 100.0, side, 0.0]), look(likeness), first, last)


def test_people_are_told_apart_by_look_wherever_they_are():
    assert link([seen(0, 1, 100), seen(2, 0, 400), seen(4, 1, 300), seen(6, 0, 100)]) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("likeness", "x", "scene", "same"),
    [
        (0.40, 100, 0.0, True), (0.30, 100, 0.0, False),  # in the same place of the same scene
        (0.70, 100, 0.5, True), (0.66, 100, 0.5, False),  # in the same place of another scene
        (0.75, 300, 0.0, True), (0.65, 300, 0.0, False),  # elsewhere
        (0.70, 135, 0.5, True), (0.70, 145, 0.5, False),  # half a face's side is still the same place
    ],
)  # fmt: skip
def test_how_alike_one_person_must_look_depends_on_place_and_scene(likeness, x, scene, same):
    assert link([seen(0), seen(2, likeness, x, scene)]) == [0, 0 if same else 1]


def test_how_one_ended_and_the_next_began_tells_whether_the_scene_went_on():
    """Not how their windows ended: who left before a cut was taken for somebody in the picture behind it, and a camera that moves for a cut."""
    assert link([seen(0), seen(2, 0.40, scene=0.5, last_scene=0.0)]) == [0, 1]
    assert link([seen(0, last_scene=0.5), seen(2, 0.40, scene=0.5, last_scene=0.9)]) == [0, 0]


def test_nobody_is_twice_in_one_moment_however_often_they_were_seen():
    assert link([seen(0), seen(0.5)]) == [0, 1]
    assert link([seen(0), seen(5), seen(5.5)]) == [0, 0, 1]
    assert link([seen(0, end=2.0), seen(2.0)]) == [0, 1], "the last moment of one is the first of the other"


def test_a_person_is_known_by_the_appearance_that_is_most_like():
    """Who turns the head little by little is one person, though the first and the last look are far apart."""
    assert link([seen(0, 1.0, 0), seen(2, 0.75, 300), seen(4, 0.15, 600)]) == [0, 0, 0]
    assert link([seen(0, 1.0, 0), seen(2, 0.15, 600)]) == [0, 1]


@pytest.mark.parametrize(("likeness", "person"), [(0.62, 1), (0.75, 1), (0.99, 0)])
def test_a_face_joins_the_person_it_looks_most_like_whoever_came_first(likeness, person):
    assert link([seen(0, 1.0, 0), seen(0, 0.6, 600), seen(2, likeness, 300)]) == [0, 1, person]


def test_one_earlier_sight_in_the_same_place_is_enough():
    """Less likeness is needed there, of whichever sight of the person it comes."""
    first, elsewhere, again = seen(0), seen(2, 0.75, 600), seen(4, scene=0.5)
    again.look[:3] = 0.7, 0, 0.7
    assert link([first, elsewhere, again]) == [0, 0, 0]


def test_of_two_at_once_the_larger_is_the_first():
    assert link([seen(0, side=40.0), seen(0, 0.1, 600, side=90.0)]) == [1, 0]


def picture(seed: int, fine: int) -> np.ndarray:
    """Soft blotches of one seed, with finer ones of another over them."""
    soft = cv2.resize(np.random.default_rng(seed).uniform(60, 190, (6, 6)).astype(np.float32), (200, 200), interpolation=cv2.INTER_CUBIC)
    finer = cv2.resize(np.random.default_rng(fine).uniform(-25, 25, (40, 40)).astype(np.float32), (200, 200), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(soft + finer, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def likeness(one: np.ndarray, other: np.ndarray, place=(100.0, 100.0, 120.0, 0.0)) -> tuple[float, float]:
    """Of their small pictures alone, and of both."""
    seen = [replace(sighting(0), look=grey, edges=edges) for grey, edges in (look_of(frame, np.array(place)) for frame in (one, other))]
    return float(seen[0].look @ seen[1].look), float(mean_look(seen[:1]) @ mean_look(seen[1:]))


def test_light_and_contrast_do_not_change_how_a_face_looks():
    face = picture(1, 2)
    assert likeness(face, (face * 0.5 + 60).astype(np.uint8)) == pytest.approx((1, 1), abs=0.03)


def test_two_whose_small_pictures_are_alike_are_told_apart_by_their_edges():
    grey, both = likeness(picture(1, 2), picture(1, 3))
    assert grey > ALIKE_HERE + 0.1 and both < ALIKE_HERE


@pytest.mark.parametrize("place", [(-20.0, 100.0, 120.0, 0.0), (190.0, 190.0, 120.0, 0.7), (600.0, 600.0, 50.0, 0.0)])
def test_a_face_at_the_edge_of_its_picture_or_beyond_has_a_look(place):
    grey, both = likeness(picture(1, 2), picture(1, 2), place)
    assert (grey, both) == pytest.approx((1, 1), abs=1e-5) or (grey, both) == (0, 0), "nothing of it is in the picture"
