"""Aligned face clips out of a media file: sample, find, follow, crop, measure. The same for training and for serving.

A video is sampled in windows of frames by time stamp (`dense`: the whole video; `standard`: windows spread over it; `fast`: one frame a second).
In each window faces are followed; a frame without the face is dropped, a gap longer than `max_gap_frames` or a cut ends the clip. A face that comes
too late in a window for a clip is followed into the next, where that begins with the next frame. The crops of a clip follow a smoothed path.
A photo is a clip of one frame; one in which no face is found is tried as a crop that is all face. Whatever is wrong with a file ends as `Extraction.reason`.
"""

import math
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import cv2
import numpy as np

from media.align import crop_transform, place, rebased, reduced, sample, smooth
from media.decode import MediaInfo, Source, probe, read_frames, read_image, shown_seconds
from media.detect import FaceFinder
from media.photos import NO_MEMORY
from media.tracks import CUT, Appearance, Sighting, Tracker, Tracklet, change, link, look, mean_look, thumbnail
from workspace.errors import MediaError
from workspace.settings import FaceSettings

NO_FACE, TOO_SMALL, TOO_FEW = "no face found", "face too small", "too few frames with a face"
FAST_FPS = 1.0
MAX_WINDOWS = 600  # more of a long video is thinned evenly: ten minutes of one-second clips, 2.7 GB of pixels
SEARCH_FRAMES = 24  # looked at when no window of mode `standard` met a face
PATH_SLACK = 0.15  # how far (crop sides) smoothing may move a crop from its frame's own place
QUALITY_FRAMES = 5  # frames a clip that sharpness, brightness and skin tone are measured on
CHEEKS, CHEEK_REACH, LEAST_YELLOW = (50, 280), 0.03, 2.0  # points of the mesh, half a patch's side in parts of the crop, b* of CIELAB


@dataclass(frozen=True, slots=True)
class FaceClip:
    """One face through time. T frames, S the side in the settings."""

    frames: np.ndarray  # [T, S, S, 3] uint8 RGB
    landmarks: np.ndarray  # [T, 468, 2] float32, crop coordinates 0..1 (x, y); may leave them where the mesh does
    track: int  # 0 is the largest face of the file
    start_seconds: float
    end_seconds: float  # of the last frame's sample time
    face_px: float  # longer side of the face in source pixels, mean
    sharpness: float  # variance of the Laplacian over the variance of the grey crop, mean
    brightness: float  # mean grey of the crop's middle, 0..1
    skin_tone_degrees: float  # typology angle of the cheeks, about 60 (light) to -60 (dark); NaN where they have no skin's colour
    yaw_degrees: float  # 0 looks at the camera, mean
    score: float  # of the detector, mean
    place: tuple[float, float, float]  # of the face: centre x, y and longer side, in parts of its picture's width, height and width, mean


MEASURED = tuple(one.name for one in fields(FaceClip) if one.name not in ("frames", "landmarks", "place"))  # plain numbers of a clip


@dataclass(slots=True)
class Extraction:
    """The clips of one file, or the reason why there are none."""

    clips: list[FaceClip] = field(default_factory=list)  # by track, then by time
    frames_seen: int = 0  # different pictures that were looked at
    frames_with_face: int = 0
    faces: int = 0  # tracks
    kind: str = ""  # video | image | '' when unreadable
    reason: str = ""
    info: MediaInfo | None = None
    faces_too_small: int = 0  # sightings below min_face_px
    faces_beyond: int = 0  # people left out, at the least, since `max_tracks` larger faces were followed
    too_short: list[tuple[float, float]] = field(default_factory=list)  # when faces were followed for too few frames to give a clip; by time, apart


def extract_clips(source: Source, faces: FaceSettings, threads: int = 1) -> Extraction:
    """Every clip of a file that the settings ask for. Never raises for bad media: `reason` says what was wrong.

    Deterministic: the same bytes and settings give the same clips, with however many `threads` faces are looked for; only what the
    decoder makes up for damaged parts of a file differs from run to run.
    Raises ModelFileError when the detector is not installed.
    """
    result = Extraction()
    try:
        result.info = probe(source)
        result.kind = result.info.kind
        if result.kind == "image":
            _collect(result, [[0.0]], source, faces, 1)
        else:
            _collect_video(result, source, faces, threads)
    except MediaError as problem:
        result.reason = problem.why
    except cv2.error as problem:
        result.reason = NO_MEMORY if problem.code == cv2.Error.StsNoMem else "truncated or corrupt"
    if result.reason == NO_MEMORY:
        result.clips = []  # what came before it is as much as fitted here, and says nothing of the file
    elif result.clips:
        result.reason = ""
    elif not result.reason:
        result.reason = TOO_FEW if result.frames_with_face else TOO_SMALL if result.faces_too_small else NO_FACE
    return result


def windows(duration_seconds: float, faces: FaceSettings) -> list[list[float]]:
    """The sample times of each window, rising, for a video of this length; times after its true end do no harm.

    In mode `fast` a rest that is too short for a clip, seconds of it, belongs to the window before it, whose clip is then longer than `clip_frames`.
    """
    length = faces.clip_frames / faces.fps
    if faces.mode == "standard":
        count = max(1, min(faces.clips_per_video, int(duration_seconds / length + 1e-6)))
        spare = max(0.0, duration_seconds - count * length)
        return [_window(k * length + spare * (k + 0.5) / count, 1 / faces.fps, faces.clip_frames) for k in range(count)]
    step = 1 / faces.fps
    if faces.mode == "fast":  # a short video is looked at more often, so that it gives a clip at all
        step = min(1 / FAST_FPS, max(duration_seconds / faces.min_clip_frames, step))
    frames = max(1, int(np.ceil(duration_seconds / step - 1e-6)))
    count = -(-frames // faces.clip_frames)
    numbers = np.linspace(0, count - 1, min(count, MAX_WINDOWS)).round().astype(int)
    found = [_window(int(k) * faces.clip_frames * step, step, min(faces.clip_frames, frames - int(k) * faces.clip_frames)) for k in numbers]
    if faces.mode == "fast" and 1 < count == len(numbers) and len(found[-1]) < faces.min_clip_frames:
        found[-2:] = [found[-2] + found[-1]]
    return found


def _window(start: float, step: float, frames: int) -> list[float]:
    return [start + k * step for k in range(frames)]


def _collect_video(result: Extraction, source: Source, faces: FaceSettings, threads: int) -> None:
    assert result.info is not None
    duration = shown_seconds(source, result.info)  # by a header that lies, windows would lie after the end, or what is forged behind the last of them
    plan = windows(duration, faces)
    _collect(result, plan, source, faces, threads)
    if result.clips or faces.mode != "standard" or duration <= len(plan) * faces.clip_frames / faces.fps:
        return
    # the windows met nobody: look once through the whole video, and go where a face is
    finder = FaceFinder(faces)
    times = [duration * (k + 0.5) / SEARCH_FRAMES for k in range(SEARCH_FRAMES)]
    hits = [time for time, frame in read_frames(source, times) if finder.find(frame)]
    plan = _apart([max(0.0, time - faces.clip_frames / faces.fps / 2) for time in hits], faces)
    if plan:
        _collect(result, plan, source, faces, threads)


def _apart(starts: list[float], faces: FaceSettings) -> list[list[float]]:
    length = faces.clip_frames / faces.fps
    chosen: list[float] = []
    for start in starts:
        if not chosen or start >= chosen[-1] + length:
            chosen.append(start)
    keep = np.linspace(0, max(0, len(chosen) - 1), min(len(chosen), faces.clips_per_video)).round().astype(int)
    return [_window(chosen[at], 1 / faces.fps, faces.clip_frames) for at in keep]


def _goes_on(window: list[float], following: list[float], faces: FaceSettings) -> bool:
    """Whether a window begins where the one before it ends; those of mode `standard` lie apart."""
    apart = [later - earlier for earlier, later in [*pairwise(window), *pairwise(following)]]
    return faces.mode != "standard" and bool(apart) and following[0] - window[-1] < 1.5 * min(apart)


def _frames(source: Source, kind: str, plan: list[list[float]]) -> Iterator[tuple[float, np.ndarray]]:
    if kind == "image":
        yield 0.0, read_image(source)
    else:
        yield from read_frames(source, [time for window in plan for time in window])


def _collect(result: Extraction, plan: list[list[float]], source: Source, faces: FaceSettings, threads: int) -> None:
    """Goes through the frames of all windows once and fills `result`."""
    least = 1 if result.kind == "image" else faces.min_clip_frames
    tracker = Tracker(faces.max_gap_frames)
    found: list[tuple[FaceClip, Appearance]] = []
    too_short: list[tuple[float, float]] = []
    apart = min((later - earlier for window in plan for earlier, later in pairwise(window)), default=0.0)

    def close(going_on: int = 0) -> None:
        for tracklet in tracker.over(going_on, least) if going_on else tracker.end():
            if len(tracklet.sightings) >= least:
                found.append(_cut_clip(tracklet, faces))
            else:
                too_short.append((tracklet.sightings[0].time, tracklet.sightings[-1].time + apart))

    steps = [(number, step) for number, window in enumerate(plan) for step in range(len(window))]
    window, picture, scene = 0, None, np.zeros(0)
    seen: list[Sighting] = []
    frames = _frames(source, result.kind, plan)
    broken: Exception | None = None
    with closing(_looked_at(frames, faces, result.kind, threads)) as looked_at:  # whatever happens, its threads end here and now
        for number, step in steps:
            try:
                time, frame, sightings = next(looked_at)
            except (StopIteration, MediaError, cv2.error) as problem:
                broken = problem  # what came before it counts
                break
            moved = 0.0
            if number != window:
                close(len(plan[window]) if _goes_on(plan[window], plan[number], faces) else 0)
                window = number
            if frame is not picture:
                before, scene = scene, thumbnail(frame)
                moved = change(before, scene) if before.size else 0.0
                if moved > CUT:
                    close()
                seen, too_small = sightings.result()
                result.faces_too_small += too_small
                result.frames_seen += 1
                result.frames_with_face += bool(seen)
                picture = frame
            tracker.add([replace(one, step=step, time=time, scene=scene) for one in seen], moved)
    close()
    result.clips, result.faces, result.faces_beyond = _numbered(found, faces.max_tracks)
    result.too_short = _joined(too_short)
    if isinstance(broken, MediaError | cv2.error):
        raise broken


def _joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same times, by rising start and without overlap."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + 1e-6:
            start, end = joined[-1][0], max(end, joined.pop()[1])
        joined.append((start, end))
    return joined


Seen = tuple[list[Sighting], int]


def _looked_at(
    frames: Iterator[tuple[float, np.ndarray]], faces: FaceSettings, kind: str, threads: int
) -> Generator[tuple[float, np.ndarray, "Future[Seen]"], None, None]:
    """Each frame with what will be seen in it; faces are looked for in frames ahead, while the next ones are decoded. A frame that stands is looked at once."""
    waiting: deque[tuple[float, np.ndarray, Future[Seen]]] = deque()
    finder, broken = FaceFinder(faces), None
    with ThreadPoolExecutor(threads) as pool:
        while broken is None:
            try:
                time, frame = next(frames)
            except (StopIteration, MediaError, cv2.error) as problem:
                broken = problem  # what came before it counts
                break
            same = waiting and waiting[-1][1] is frame
            waiting.append((time, frame, waiting[-1][2] if same else pool.submit(_sightings, finder, frame, faces, kind)))
            if len(waiting) > 2 * threads:
                yield waiting.popleft()
        yield from waiting
    if not isinstance(broken, StopIteration):
        raise broken


def _sightings(finder: FaceFinder, frame: np.ndarray, faces: FaceSettings, kind: str) -> Seen:
    """The faces of a frame, the largest first, and how many others are too small."""
    seen, too_small = [], 0
    for face in finder.find(frame) or (finder.fit_whole(frame) if kind == "image" else []):
        where = place(face.landmarks)
        if where[2] < faces.min_face_px:
            too_small += 1
            continue
        part, shift, factor = reduced(frame, crop_transform(where, faces.margin, faces.size_px), faces.size_px, extra=PATH_SLACK)
        if np.shares_memory(part, frame):
            part = part.copy()  # let the frame go
        if part.size:
            inside = np.array([*((where[:2] - shift) * factor), where[2] * factor.mean(), where[3]])
            seen.append(Sighting(0, 0.0, face, where, frame.shape[1::-1], *look(part, inside), part, shift, factor, np.zeros(0)))
    return sorted(seen, key=lambda one: -one.place[2])[: 2 * faces.max_tracks], too_small


def _cut_clip(tracklet: Tracklet, faces: FaceSettings) -> tuple[FaceClip, Appearance]:
    seen, size = tracklet.sightings, faces.size_px
    path = smooth(np.stack([one.place for one in seen]), np.array([one.time for one in seen]))
    frames = np.empty((len(seen), size, size, 3), np.uint8)
    landmarks = np.empty((len(seen), len(seen[0].face.landmarks), 2), np.float32)
    for at, (one, where) in enumerate(zip(seen, path, strict=True)):
        matrix = crop_transform(where, faces.margin, size)
        frames[at] = sample(one.part, rebased(matrix, one.shift, one.factor), size)
        landmarks[at] = (one.face.landmarks @ matrix[:, :2].T + matrix[:, 2]) / size
    clip = FaceClip(
        frames, landmarks, 0, seen[0].time, seen[-1].time,
        face_px=float(np.mean([one.place[2] for one in seen])), **looks(frames, landmarks),
        yaw_degrees=float(np.mean([one.face.yaw_degrees for one in seen])), score=float(np.mean([one.face.score for one in seen])),
        place=_mean_place(seen),
    )  # fmt: skip
    return clip, Appearance(clip.start_seconds, clip.end_seconds, path.mean(axis=0), mean_look(seen), seen[0].scene, seen[-1].scene)


def _mean_place(seen: Sequence[Sighting]) -> tuple[float, float, float]:
    """See FaceClip."""
    x, y, side = np.mean([one.place[:3] / [one.frame_px[0], one.frame_px[1], one.frame_px[0]] for one in seen], axis=0)
    return float(x), float(y), float(side)


def _measured_at(count: int) -> np.ndarray:
    """The places of at most QUALITY_FRAMES of so many frames, spread over all."""
    return np.unique(np.linspace(0, count - 1, QUALITY_FRAMES).round().astype(int))


def looks(frames: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """What FaceClip says of a clip's pixels: sharpness, brightness, skin_tone_degrees. frames [T, S, S, 3] uint8 RGB, landmarks [T, 468, 2] in 0..1."""
    sharpness, brightness = _quality(frames)
    return {"sharpness": sharpness, "brightness": brightness, "skin_tone_degrees": skin_tone(frames, landmarks)}


def skin_tone(frames: np.ndarray, landmarks: np.ndarray) -> float:
    """Individual typology angle atan((L* - 50) / b*) of the cheeks in degrees (Chardon et al. 1991), the median over a few frames of a clip.

    frames [T, S, S, 3] uint8 RGB, landmarks [T, 468, 2] in 0..1. It follows the light of the picture as much as the person: good for slices,
    and for nothing that is said of anybody. NaN where the cheeks are not yellowish as skin is (a grey picture, coloured light).
    """
    size, seen = frames.shape[1], []
    reach = max(1, round(CHEEK_REACH * size))
    for at in _measured_at(len(frames)):
        for x, y in np.clip(np.nan_to_num(landmarks[at, list(CHEEKS)]) * size, reach, size - 1 - reach).round().astype(int):
            seen.append(frames[at, y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 3))
    lab = cv2.cvtColor((np.concatenate(seen)[None].astype(np.float32) / 255), cv2.COLOR_RGB2LAB)[0]
    light, yellow = float(np.median(lab[:, 0])), float(np.median(lab[:, 2]))
    return math.degrees(math.atan2(light - 50, yellow)) if yellow > LEAST_YELLOW else math.nan


def _quality(frames: np.ndarray) -> tuple[float, float]:
    """Sharpness and brightness of a clip, see FaceClip."""
    sharp, bright = [], []
    edge = frames.shape[1] // 5
    for at in _measured_at(len(frames)):
        grey = cv2.cvtColor(frames[at], cv2.COLOR_RGB2GRAY).astype(np.float32)[edge:-edge, edge:-edge]
        sharp.append(float(cv2.Laplacian(grey, cv2.CV_32F).var() / (grey.var() + 1.0)))
        bright.append(float(grey.mean() / 255))
    return float(np.mean(sharp)), float(np.mean(bright))


def _numbered(found: Sequence[tuple[FaceClip, Appearance]], max_tracks: int) -> tuple[list[FaceClip], int, int]:
    """The clips of the `max_tracks` largest faces, numbered by size; how many tracks these are, and how many people were left out."""
    people = link([appearance for _, appearance in found])
    size: dict[int, float] = {}
    for (clip, _), person in zip(found, people, strict=True):
        size[person] = size.get(person, 0.0) + clip.face_px * len(clip.frames)
    order = {person: number for number, person in enumerate(sorted(size, key=lambda person: (-size[person], person))[:max_tracks])}
    clips = [replace(clip, track=order[person]) for (clip, _), person in zip(found, people, strict=True) if person in order]
    return sorted(clips, key=lambda clip: (clip.track, clip.start_seconds)), len(order), len(size) - len(order)
