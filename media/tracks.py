"""Who is who: sightings of faces become tracklets within a window of frames, and tracklets become people across windows.

Within a window a face is followed by where it is. Across windows and cuts position means little, so that how the aligned face looks decides as
well: a small grey picture of it, and between windows its edges too. It tells the few people of one video apart; it is no face recognition and leaves
this module only as a track number.

The bounds are measured on 42 clips of 39 people at 10 frames a second. Neighbouring frames: the small pictures correlate at least 0.50, all but one
in a thousand 0.68 (edges move more: 0.41 and 0.58). Likeness of half a second and another, of one person: lowest hundredth 0.59, lowest fifth 0.86;
of two people: median 0.46, highest twentieth 0.66. Change of the whole picture within a scene: at most 0.086; at cuts 0.08 to 0.24. Doubt splits: a
person split in two is judged twice, two people in one would hide a forged one. It does not always: ALIKE_HERE joins 3.4% of such pairs of two people
and keeps 97% of one person's (by the grey picture alone 11% for as many kept). Of 21 pairs who took turns in the same place across cuts, one became
one person (by the grey picture alone three).

Frames a second apart (mode `fast`) lie as far apart as windows do and are weighed like them. Weighed as neighbours, 2.5% of a person's steps break
off, and of 278 pieces of up to five seconds 23 are not judged whole, two of them not at all; so, 0.8% do and one piece lacks a frame. Of 600 pairs of
whom one takes the other's place across a cut 17 share a clip as neighbours, 5 so, 38 with ALIKE_SCENE whatever the scene. Within one scene, where one
would have to take the other's place in a second, FOLLOWED joins 35% of two people, ALIKE_SCENE 73%. Of 567 pairs across a cut `link` makes one person
of 35; of 600 as many in mode `standard`, 38 in `dense`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from media.align import crop_transform, warp
from media.detect import Detection

EDGES_PX, EDGES_EXTENT = 64, 1.3  # side of the picture that edges are taken from, and how much of the face it shows
MIDDLE_PX, FACE_PX = 40, 16  # its middle, 0.8 of the face, and the side that this is shrunk to
EDGES = cv2.HOGDescriptor((EDGES_PX, EDGES_PX), (16, 16), (8, 8), (8, 8), 9)
REACH = 0.5  # a face moves less than this part of its side from one frame to the next
REACH_GROWTH = 2.0  # and that much more a second
SIZE_RATIO = 1.6
NEIGHBOURS_SECONDS = 0.3  # frames that lie further apart are weighed as windows are
FOLLOWED = 0.5  # least likeness from frame to frame
FOLLOWED_IN_DOUBT = 0.65  # the same where the whole picture changed by more than DOUBT
ALIKE = 0.72  # least likeness of one person anywhere in the video
ALIKE_HERE = 0.68  # in the same place, after a cut
ALIKE_SCENE = 0.35  # in the same place of the same scene
CUT, SAME_SCENE, DOUBT = 0.15, 0.1, 0.06  # mean change of the whole picture, 0..1


@dataclass(frozen=True, slots=True)
class Sighting:
    """One face in one frame: what a crop needs, without the frame."""

    step: int  # number of the frame in its window; below 0 in the one before
    time: float
    face: Detection
    place: np.ndarray  # [4] media.align.place
    frame_px: tuple[int, int]  # width and height of the frame; a stream may change them
    look: np.ndarray  # the small picture, see look
    edges: np.ndarray
    part: np.ndarray  # pixels round the face, with shift and factor of media.align.reduced
    shift: np.ndarray
    factor: np.ndarray
    scene: np.ndarray  # thumbnail of the frame


@dataclass(slots=True)
class Tracklet:
    """One face through the frames of one window, and of the end of the one before where it came late there."""

    sightings: list[Sighting] = field(default_factory=list)

    def nearness(self, other: Sighting) -> float:
        """0 for a face in the same place and of the same size, 1 at the edge of what one face can do, more beyond."""
        last = self.sightings[-1]
        side = max(last.place[2], other.place[2])
        moved = float(np.hypot(*(last.place[:2] - other.place[:2]))) / side
        ratio = side / min(last.place[2], other.place[2])
        return max(moved / (REACH + REACH_GROWTH * min(1.0, other.time - last.time) / 2), np.log(ratio) / np.log(SIZE_RATIO))


class Tracker:
    """Follows the faces of one window; `finished` holds the tracklets that ended."""

    def __init__(self, max_gap_frames: int) -> None:
        self.max_gap_frames = max_gap_frames
        self.finished: list[Tracklet] = []
        self._open: list[Tracklet] = []

    def add(self, sightings: Sequence[Sighting], change: float = 0.0) -> None:
        """Take the faces of the next frame; each goes to the nearest tracklet that looks like it, or starts one.

        `change`: how much the whole picture changed since the frame before, 0..1.
        """
        if not sightings:
            return
        step = sightings[0].step
        lost = [tracklet for tracklet in self._open if step - tracklet.sightings[-1].step > self.max_gap_frames + 1]
        self.finished += lost
        self._open = [tracklet for tracklet in self._open if tracklet not in lost]
        pairs = sorted(
            (nearness, number, other)
            for number, tracklet in enumerate(self._open)
            for other, sighting in enumerate(sightings)
            if (nearness := tracklet.nearness(sighting)) < 1 and _goes_on(tracklet.sightings[-1], sighting, change)
        )
        taken: set[int] = set()
        used: set[int] = set()
        for _, number, other in pairs:
            if number not in used and other not in taken:
                self._open[number].sightings.append(sightings[other])
                used.add(number)
                taken.add(other)
        self._open += [Tracklet([sighting]) for other, sighting in enumerate(sightings) if other not in taken]

    def over(self, frames: int, least: int) -> list[Tracklet]:
        """All tracklets at the end of a window of `frames` that the next one goes on from; who is still followed and has less than `least` sightings stays."""
        going = [one for one in self._open if len(one.sightings) < least and frames - one.sightings[-1].step <= self.max_gap_frames + 1]
        ended = self.finished + [tracklet for tracklet in self._open if tracklet not in going]
        self.finished, self._open = [], [Tracklet([replace(one, step=one.step - frames) for one in tracklet.sightings]) for tracklet in going]
        return ended

    def end(self) -> list[Tracklet]:
        """All tracklets; the next frame starts anew (a cut, or the end of the window)."""
        ended = self.finished + self._open
        self.finished, self._open = [], []
        return ended


def _goes_on(last: Sighting, other: Sighting, changed: float) -> bool:
    """Whether who was seen last looks enough like the other to be one face; the whole picture changed by `changed` since the frame before."""
    if (other.time - last.time) / (other.step - last.step) > NEIGHBOURS_SECONDS:
        return float(mean_look([last]) @ mean_look([other])) >= _needed_here(last.scene, other.scene)
    return float(last.look @ other.look) >= (FOLLOWED_IN_DOUBT if changed > DOUBT else FOLLOWED)


@dataclass(frozen=True, slots=True)
class Appearance:
    """What linking needs of one clip: when, where (place [4]), mean_look, and thumbnails of its first and of its last picture."""

    start: float
    end: float
    place: np.ndarray
    look: np.ndarray
    first_scene: np.ndarray
    last_scene: np.ndarray


def link(appearances: Sequence[Appearance]) -> list[int]:
    """A person's number for each appearance, from 0 in order of first sight.

    Nobody is twice in one moment. An appearance joins the person it looks most like, if alike enough; less is enough where that person was
    last seen in the same place, and still less where the scene is the same too.
    """
    people: list[list[Appearance]] = []
    numbers = [0] * len(appearances)
    for at in sorted(range(len(appearances)), key=lambda index: (appearances[index].start, -appearances[index].place[2], index)):
        one = appearances[at]
        best, chosen = 0.0, len(people)
        for number, seen in enumerate(people):
            if any(one.start <= other.end and other.start <= one.end for other in seen):
                continue
            likeness = max(float(one.look @ other.look) for other in seen)
            needed = min(_needed(one, other) for other in seen)
            if likeness - needed > best:
                best, chosen = likeness - needed, number
        if chosen == len(people):
            people.append([])
        people[chosen].append(one)
        numbers[at] = chosen
    return numbers


def _needed(one: Appearance, before: Appearance) -> float:
    moved = float(np.hypot(*(one.place[:2] - before.place[:2]))) / max(one.place[2], before.place[2])
    return ALIKE if moved > REACH else _needed_here(before.last_scene, one.first_scene)


def _needed_here(scene: np.ndarray, other: np.ndarray) -> float:
    """Least likeness of one person in the same place of two pictures."""
    return ALIKE_SCENE if change(scene, other) < SAME_SCENE else ALIKE_HERE


def look(picture: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the aligned face looks: a small grey picture of its middle [256], and the edges of all of it [1764].

    Each float32, without its mean and of unit length. Edges: histograms of oriented gradients (Dalal and Triggs 2005), 8 x 8 cells of 9 directions in
    blocks of 2 x 2. `place` as media.align.place, in the pixels of `picture`.
    """
    whole = cv2.cvtColor(warp(picture, crop_transform(place, EDGES_EXTENT, EDGES_PX), EDGES_PX), cv2.COLOR_RGB2GRAY)
    edge = (EDGES_PX - MIDDLE_PX) // 2
    middle = cv2.resize(whole[edge:-edge, edge:-edge], (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
    return _unit(middle), _unit(EDGES.compute(whole))


def mean_look(seen: Sequence[Sighting]) -> np.ndarray:
    """The look of a clip, of unit length: the product of two is the mean of how their small pictures and how their edges correlate."""
    parts = [_of_length_one(np.mean(part, axis=0)) for part in ([one.look for one in seen], [one.edges for one in seen])]
    return np.concatenate(parts) / np.float32(np.sqrt(2))


def _unit(part: Any) -> np.ndarray:
    flat = np.asarray(part, np.float32).ravel()
    return _of_length_one(flat - flat.mean())


def _of_length_one(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """The frame as 16 x 16 colours, float32 0..1, to notice cuts by."""
    step = max(1, min(frame.shape[:2]) // 64)
    return cv2.resize(frame[::step, ::step], (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def change(before: np.ndarray, after: np.ndarray) -> float:
    """How much the picture changed between two thumbnails, 0..1; above CUT it is another scene."""
    return float(np.abs(before - after).mean())
