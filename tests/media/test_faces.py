"""From a file to steady, aligned clips of each face, or to the reason why there are none."""

import struct
import threading
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import media.faces
from media.align import crop_transform, place, smooth, warp
from media.decode import shown_seconds
from media.detect import FaceFinder
from media.faces import extract_clips, skin_tone, windows
from media.landmarks import LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from media.synthetic import render_take
from media.tracks import DOUBT, Tracker
from tests.media.videos import write_video
from workspace.errors import MediaError
from workspace.settings import FaceSettings

SMALL = FaceSettings(size_px=64, fps=12.0, clip_frames=6, clips_per_video=2, min_clip_frames=3, max_detect_px=256)


def take(person, frames=24, number=0, size=192):
    return [np.ascontiguousarray(frame) for frame in render_take(5, person, number, frames, size_px=size)[0]]


def same_size(frame, like):
    return cv2.resize(frame, like.shape[1::-1], interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def person():
    return take(1)


@pytest.fixture(scope="module")
def video(person, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("faces") / "a.mp4", person, fps=12)


def eye_line(landmarks):
    return landmarks[LEFT_EYE].mean(axis=0), landmarks[RIGHT_EYE].mean(axis=0)


def test_a_video_gives_aligned_clips(video):
    found = extract_clips(video, SMALL)
    assert (found.kind, found.reason, found.faces, len(found.clips)) == ("video", "", 1, 2)
    assert found.frames_seen == found.frames_with_face == 12
    for clip in found.clips:
        assert clip.frames.shape == (6, 64, 64, 3) and clip.frames.dtype == np.uint8
        assert clip.landmarks.shape == (6, 468, 2) and clip.track == 0
        assert 0.5 < clip.score <= 1 and clip.sharpness > 0 and 0 < clip.brightness < 1 and -90 < clip.skin_tone_degrees < 90 and abs(clip.yaw_degrees) < 60
        for landmarks in clip.landmarks:
            left, right = eye_line(landmarks)
            mouth = landmarks[OUTER_LIPS].mean(axis=0)
            assert abs(left[1] - right[1]) < 0.06  # the eyes are level ...
            assert 0.35 < (left[0] + right[0]) / 2 < 0.65 and 0.25 < left[1] < 0.5 and 0.5 < mouth[1] < 0.85


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_file_gives_the_same_clips_with_however_many_threads(video, threads):
    one, two = extract_clips(video, SMALL), extract_clips(video.read_bytes(), SMALL, threads)
    assert [clip.frames.tobytes() for clip in one.clips] == [clip.frames.tobytes() for clip in two.clips]
    assert [clip.landmarks.tobytes() for clip in one.clips] == [clip.landmarks.tobytes() for clip in two.clips]


def test_a_search_that_fails_ends_its_threads_before_the_error_is_seen(video, monkeypatch):
    looked = []

    def find(finder, frame):
        looked.append(frame)
        if len(looked) == 5:
            raise RuntimeError("broken")
        return []

    monkeypatch.setattr(FaceFinder, "find", find)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="broken") as seen:
        extract_clips(video, FaceSettings(size_px=96, fps=8.0, clip_frames=8), 3)
    assert set(threading.enumerate()) == before, seen.value


def test_landmarks_fit_the_crop(video):
    """The mesh, found again in the finished crop, lies where the clip says."""
    from media.detect import FaceFinder

    clip = extract_clips(video, SMALL.model_copy(update={"size_px": 224})).clips[0]
    (again,) = FaceFinder(FaceSettings()).find(clip.frames[2])
    assert np.abs(again.landmarks / 224 - clip.landmarks[2]).mean() < 0.025


SECONDS_OF_30 = {"fps": 30.0, "clip_frames": 30}


def test_dense_covers_the_video_standard_spreads_fast_takes_one_a_second():
    dense = windows(10.0, FaceSettings(mode="dense", **SECONDS_OF_30))
    assert len(dense) == 10 and dense[9][0] == pytest.approx(9) and {len(window) for window in dense} == {30}
    standard = windows(10.0, FaceSettings(mode="standard", clips_per_video=4, **SECONDS_OF_30))
    starts = [window[0] for window in standard]
    assert len(standard) == 4 and starts[0] > 0 and standard[3][-1] < 10 and np.allclose(np.diff(starts), 2.5)
    fast = windows(70.0, FaceSettings(mode="fast", **SECONDS_OF_30))
    assert [len(window) for window in fast] == [30, 30, 10] and np.allclose(np.diff(fast[0]), 1)


@given(st.floats(0, 5000), st.integers(2, 32), st.integers(1, 8))
def test_one_frame_a_second_reaches_the_end_of_a_video(duration, clip_frames, least):
    """A rest of some seconds made no clip: of 10 s the last two were never judged."""
    least = min(least, clip_frames)
    plan = windows(duration, FaceSettings(mode="fast", clip_frames=clip_frames, min_clip_frames=least))
    times = [time for window in plan for time in window]
    assert duration - times[-1] <= 1 + 1e-6 or len(plan) == 600
    if len(plan) < 600:
        assert np.allclose(np.diff(times), np.diff(times)[:1]) and all(least <= len(window) < clip_frames + least for window in plan if len(plan) > 1)


def test_windows_do_not_overlap_in_a_short_video():
    for duration in (0.0, 0.3, 1.0, 1.9, 2.5, 3.99):
        starts = [window[0] for window in windows(duration, FaceSettings())]
        assert len(starts) == max(1, min(4, int(duration))) and all(b - a >= 1 - 1e-9 for a, b in pairwise(starts))


@pytest.mark.parametrize("mode", ["dense", "fast"])
def test_a_very_long_video_is_thinned(mode):
    """A header may claim any length; planning must neither take that many frames nor that much memory."""
    plan = windows(1e12, FaceSettings(mode=mode))
    assert len(plan) == 600 and plan[-1][0] > 9e11


def test_a_header_that_claims_hours_does_not_hide_the_face(tmp_path, person):
    content = bytearray(write_video(tmp_path / "a.mkv", person, fps=12).read_bytes())
    at = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, milliseconds as a double
    content[at : at + 8] = struct.pack(">d", 5 * 3600e3)
    found = extract_clips(bytes(content), SMALL)
    assert found.info.duration_seconds > 3600 and len(found.clips) == 2


@pytest.mark.parametrize("mode", ["dense", "standard", "fast"])
def test_a_header_that_lies_about_the_length_hides_nothing(tmp_path, person, mode):
    """A tenth of the length in the header, and only the first second of ten was ever looked at, whatever was forged behind it."""
    path = write_video(tmp_path / "a.mp4", (person * 10)[:120], fps=12)
    content, faces = bytearray(path.read_bytes()), SMALL.model_copy(update={"mode": mode})
    for box, at in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        place = content.index(box) + at
        content[place : place + 4] = struct.pack(">I", round(struct.unpack(">I", content[place : place + 4])[0] / 10))
    honest, lying = extract_clips(path, faces), extract_clips(bytes(content), faces)
    assert lying.info.duration_seconds == pytest.approx(1, abs=0.1)
    spans = [[(clip.start_seconds, clip.end_seconds) for clip in found.clips] for found in (honest, lying)]
    assert spans[0] and max(end for _, end in spans[0]) > 7 and np.allclose(*spans, atol=0.2)


@pytest.mark.parametrize("mode", ["dense", "fast"])
def test_a_time_stamp_beyond_all_numbers_hides_nothing(tmp_path, person, mode, monkeypatch):
    """Time stamps of 64 bits at 1000 s a tick: windows lay beyond the integers, and the error ended the whole stage."""
    monkeypatch.setattr("media.faces.MAX_WINDOWS", 8)  # of the picture before the last, which stands for ever
    content = bytearray(write_video(tmp_path / "a.ivf", person, fps=12, codec="libvpx").read_bytes())
    struct.pack_into("<II", content, 16, 1, 1000)  # ticks: 1 in 1000 s
    packet = 32
    while packet + 12 + struct.unpack_from("<I", content, packet)[0] < len(content):
        packet += 12 + struct.unpack_from("<I", content, packet)[0]
    struct.pack_into("<Q", content, packet + 4, 1 << 62)
    found = extract_clips(bytes(content), SMALL.model_copy(update={"mode": mode}))
    assert found.clips and found.reason == "" and shown_seconds(bytes(content), found.info) < 1e9


@pytest.mark.parametrize("mode", ["dense", "standard", "fast"])
def test_every_mode_finds_the_face(video, mode):
    found = extract_clips(video, SMALL.model_copy(update={"mode": mode}))
    assert found.clips and found.faces == 1
    assert {"dense": len(found.clips) == 4, "standard": len(found.clips) == 2, "fast": len(found.clips) == 1}[mode]


@pytest.mark.parametrize(("mode", "fps"), [("dense", 12), ("fast", 1)])
def test_a_face_long_enough_for_a_clip_gives_one_wherever_windows_end(tmp_path, person, mode, fps):
    """Cut in two by a window's end it had too little on either side: in `fast`, 4 s of a face in 12 s were never judged."""
    empty = [np.full_like(person[0], 30)] * 18
    faces = SMALL.model_copy(update={"mode": mode})
    for start in range(2, 12):
        frames = [*empty[:start], *person[: faces.min_clip_frames], *empty[start + faces.min_clip_frames :]]
        found = extract_clips(write_video(tmp_path / f"{start}.mp4", frames, fps=fps), faces)
        assert [len(clip.frames) for clip in found.clips] == [faces.min_clip_frames], start
        assert found.clips[0].start_seconds == pytest.approx(start / fps, abs=0.01)


def test_what_was_found_before_a_file_breaks_off_counts(video, monkeypatch):
    """An error of the decoder in mid-stream threw away all clips before it."""
    real = media.faces.read_frames

    def breaking(source, times):
        for number, frame in enumerate(real(source, times)):
            if number == 15:
                raise MediaError("a.mp4 broke off.", why="truncated or corrupt", next_step="")
            yield frame

    dense = SMALL.model_copy(update={"mode": "dense"})
    whole = extract_clips(video, dense)
    monkeypatch.setattr(media.faces, "read_frames", breaking)
    found = extract_clips(video, dense)
    assert (found.reason, found.faces, [len(clip.frames) for clip in found.clips]) == ("", 1, [6, 6, 3])
    assert all(np.array_equal(one.frames, other.frames) for one, other in zip(whole.clips[:2], found.clips, strict=False))


def test_windows_that_lie_apart_are_not_joined(tmp_path, person):
    """Those of `standard`: two frames at the end of one and two at the start of the next are seconds apart, and no clip."""
    faces = SMALL.model_copy(update={"clips_per_video": 2})
    (*_, late), (early, *_) = ([round(time * 12) for time in window] for window in windows(3.0, faces))
    empty = np.full_like(person[0], 30)
    frames = [person[0] if number in (late - 1, late, early, early + 1) else empty for number in range(36)]
    found = extract_clips(write_video(tmp_path / "a.mp4", frames, fps=12), faces)
    assert (late, early, found.clips, found.reason) == (11, 24, [], "too few frames with a face")


def test_windows_round_the_places_where_a_face_was_met_do_not_overlap():
    starts, many = [0.0, 0.1, 0.3, 0.5, 0.9, 1.0, 5.0], SMALL.model_copy(update={"clips_per_video": 9})
    assert [window[0] for window in media.faces._apart(starts, many)] == [0.0, 0.5, 1.0, 5.0]
    assert [window[0] for window in media.faces._apart(starts, SMALL)] == [0.0, 5.0]


def test_a_window_goes_on_only_in_the_one_that_begins_with_the_next_frame():
    dense, one = SMALL.model_copy(update={"mode": "dense"}), [k / 12 for k in range(6)]
    assert media.faces._goes_on(one, [time + 0.5 for time in one], dense)
    assert not media.faces._goes_on(one, [time + 1.0 for time in one], dense), "one of a very long video was left out between them"


def test_a_video_shorter_than_a_clip_still_gives_one(tmp_path, person):
    found = extract_clips(write_video(tmp_path / "a.mp4", person[:4], fps=12), SMALL)
    assert [len(clip.frames) for clip in found.clips] == [4]


def test_too_few_frames_are_no_clip(tmp_path, person):
    found = extract_clips(write_video(tmp_path / "a.mp4", person[:2], fps=12), SMALL)
    assert not found.clips and found.reason == "too few frames with a face" and found.frames_with_face == 2


def test_a_photo_is_a_clip_of_one_frame(person):
    found = extract_clips(cv2.imencode(".png", person[0][:, :, ::-1])[1].tobytes(), SMALL)
    assert (found.kind, found.reason, found.frames_seen) == ("image", "", 1)
    assert [clip.frames.shape for clip in found.clips] == [(1, 64, 64, 3)]


def test_a_photo_that_is_all_face_gives_a_clip_and_a_video_of_it_keeps_to_the_detector(tmp_path, person):
    from media.detect import FaceFinder

    picture = np.ascontiguousarray(person[0])
    (face,) = FaceFinder(SMALL).find(picture)
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    scale, (x, y) = 224 / (0.8 * (high - low).max()), (low + high) / 2
    crop = warp(picture, np.array([[scale, 0, 112 - scale * x], [0, scale, 112 - scale * y]]), 224)
    assert not FaceFinder(SMALL).find(crop)
    found = extract_clips(cv2.imencode(".png", crop[:, :, ::-1])[1].tobytes(), SMALL)
    assert len(found.clips) == 1 and found.reason == "" and found.clips[0].landmarks.shape == (1, 468, 2)
    assert extract_clips(write_video(tmp_path / "a.mp4", [crop] * 8), SMALL).reason == "no face found"


def test_no_face_has_its_reason(tmp_path):
    noise = [np.random.default_rng(k).integers(0, 256, (96, 96, 3), dtype=np.uint8) for k in range(12)]
    found = extract_clips(write_video(tmp_path / "a.mp4", noise, fps=12), SMALL)
    assert (found.clips, found.reason, found.frames_seen, found.faces) == ([], "no face found", 12, 0)


def test_a_small_face_has_its_reason(video):
    found = extract_clips(video, SMALL.model_copy(update={"min_face_px": 400}))
    assert not found.clips and found.reason == "face too small" and found.faces_too_small == found.frames_seen


@pytest.mark.parametrize(("gap", "lengths"), [(2, [10]), (3, [9]), (4, [4, 4])])
def test_a_short_gap_is_bridged_a_long_one_ends_the_clip(tmp_path, person, gap, lengths):
    frames = list(person[:12])
    for k in range(4, 4 + gap):
        frames[k] = np.full_like(frames[k], frames[k].mean(axis=(0, 1)).astype(np.uint8))  # no face, but no cut either
    one = SMALL.model_copy(update={"clip_frames": 12, "clips_per_video": 1, "max_gap_frames": 3})
    found = extract_clips(write_video(tmp_path / "a.mp4", frames, fps=12), one)
    assert [len(clip.frames) for clip in found.clips] == lengths and found.frames_seen == 12


def test_a_cut_to_another_person_ends_the_clip(tmp_path, person):
    other = [same_size(frame, person[0]) for frame in take(4, 6)]
    dimmed = [np.clip(frame * 0.6 + np.array([70, 10, 0]), 0, 255).astype(np.uint8) for frame in other]
    one = SMALL.model_copy(update={"clip_frames": 12, "clips_per_video": 1})
    found = extract_clips(write_video(tmp_path / "a.mp4", person[:6] + dimmed, fps=12), one)
    assert sorted((round(clip.start_seconds * 12), len(clip.frames)) for clip in found.clips) == [(0, 6), (6, 6)]


def test_at_one_frame_a_second_a_cut_to_another_person_begins_another_clip(tmp_path, person):
    other = [np.clip(same_size(frame, person[0]) * 0.6 + np.array([70, 10, 0]), 0, 255).astype(np.uint8) for frame in take(4, 5)]
    found = extract_clips(write_video(tmp_path / "a.mp4", person[:5] + other, fps=1), SMALL.model_copy(update={"mode": "fast"}))
    assert sorted((round(clip.start_seconds), len(clip.frames)) for clip in found.clips) == [(0, 5), (5, 5)] and found.too_short == []


@pytest.mark.parametrize("name", ["id07_a.mp4", "id20_a.mp4"])
def test_at_one_frame_a_second_a_head_that_turns_is_judged_all_the_time(shared_data, name):
    """Weighed like frames a tenth of a second apart, it became several people, each too short for a clip: of `id07_a` three seconds of eight were left out."""
    found = extract_clips(shared_data / "real" / "clips" / name, FaceSettings(size_px=96, mode="fast", fps=15.0, clip_frames=8))
    assert found.faces == 1 and sum(len(clip.frames) for clip in found.clips) == found.frames_with_face and found.too_short == []


def test_when_a_face_was_in_view_too_briefly_for_a_clip_is_known(tmp_path, person):
    empty = [np.full_like(person[0], 30)] * 3
    frames = [*person[:2], *empty, *person[2:8], *empty, *person[8:9], *empty, *person[9:11]]
    found = extract_clips(write_video(tmp_path / "a.mp4", frames, fps=1), SMALL.model_copy(update={"mode": "fast", "clip_frames": 12}))
    assert [len(clip.frames) for clip in found.clips] == [6] and np.allclose(found.too_short, [(0, 2), (14, 15), (18, 20)], atol=0.01)


def before(background, frame):
    canvas = np.full((360, 640, 3), background, np.uint8)
    canvas[60:300, 224:416] = frame
    return canvas


def test_a_cut_ends_the_clip_though_the_same_face_stands_in_the_same_place(tmp_path, person):
    """From one take to another of one person: nothing may be smoothed or measured across it."""
    frames = [before(20, frame) for frame in person[:12]] + [before(220, frame) for frame in person[12:]]
    found = extract_clips(write_video(tmp_path / "a.mp4", frames, fps=12), SMALL.model_copy(update={"mode": "dense", "clip_frames": 24}))
    assert [(len(clip.frames), clip.track) for clip in found.clips] == [(12, 0), (12, 0)]


def test_a_change_of_the_whole_picture_makes_the_one_who_follows_doubt(tmp_path, person, monkeypatch):
    told, add = [], Tracker.add
    monkeypatch.setattr(Tracker, "add", lambda self, seen, change=0.0: (told.append(change), add(self, seen, change))[1])
    frames = [before(20, frame) for frame in person[:6]] + [before(45, frame) for frame in person[6:12]]
    extract_clips(write_video(tmp_path / "a.mp4", frames, fps=12), SMALL.model_copy(update={"mode": "dense", "clip_frames": 12}))
    assert np.flatnonzero(np.array(told) > DOUBT).tolist() == [6]


def test_two_people_are_two_tracks_and_the_larger_is_first(tmp_path, person):
    other = [cv2.resize(frame, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA) for frame in take(2)]
    frames = []
    for large, small in zip(person, other, strict=True):
        canvas = np.full((large.shape[0], (large.shape[1] + small.shape[1]) // 2 * 2, 3), 100, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        canvas[:, -large.shape[1] :] = large
        frames.append(canvas)
    video = write_video(tmp_path / "a.mp4", frames, fps=12)
    found = extract_clips(video, SMALL)
    assert found.faces == 2 and [clip.track for clip in found.clips] == [0, 0, 1, 1]
    assert found.clips[0].face_px > found.clips[2].face_px
    only = extract_clips(video, SMALL.model_copy(update={"max_tracks": 1}))
    assert (
        found.faces_beyond == 0
        and only.faces_beyond == 1
        and only.faces == 1
        and {clip.track for clip in only.clips} == {0}
        and only.clips[0].face_px == found.clips[0].face_px
    )


def test_the_place_of_a_face_is_told_in_parts_of_its_own_picture(tmp_path, person):
    """Of a stream that grows it was told in parts of the first picture, and lay on the other side of it, or beyond."""
    large = [cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for frame in person[:12]]
    parts = [write_video(tmp_path / f"{number}.ts", frames, fps=12) for number, frames in enumerate((person[:12], large))]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    before, after = extract_clips(tmp_path / "a.ts", SMALL).clips
    assert after.face_px > 1.8 * before.face_px and np.allclose(before.place, after.place, atol=0.03)
    assert np.abs(np.array(before.place[:2]) - 0.5).max() < 0.2 < before.place[2] < 1


def test_a_face_that_shows_late_is_still_found(tmp_path, person):
    """The windows of mode `standard` may all miss a face; then the whole video is searched once."""
    blank = np.full_like(person[0], 90)
    frames = [blank] * 60 + list(person[:12]) + [blank] * 36
    found = extract_clips(write_video(tmp_path / "a.mp4", frames, fps=12), SMALL.model_copy(update={"clips_per_video": 1}))
    assert found.clips and 4.8 <= found.clips[0].start_seconds <= 6.0 and found.reason == ""


def test_a_moving_head_stays_in_the_middle_without_trembling(tmp_path, person):
    """A still picture that glides with added jitter: the crop follows the glide, and not the jitter."""
    rng = np.random.default_rng(0)
    seconds = np.arange(24) / 24
    truth = np.stack([200 + 300 * seconds, 150 + 0 * seconds, 100 + 20 * seconds, 0.1 * seconds], axis=1)
    noisy = truth + rng.normal(0, 1, truth.shape) * [1.5, 1.5, 1.5, 0.01]
    path = smooth(noisy, seconds)
    assert np.abs(path - truth)[:, :3].mean() < 0.6 * np.abs(noisy - truth)[:, :3].mean()
    assert np.abs(np.diff(path, 2, axis=0))[:, :3].mean() < 0.1 * np.abs(np.diff(noisy, 2, axis=0))[:, :3].mean()
    assert np.abs(smooth(truth, seconds) - truth).max() < 0.5  # an even glide is left as it is, ends too


def test_a_face_that_lies_upside_down_stays_so():
    """Its roll jumps between half a turn one way and the other; a mean of the two numbers would turn the crop over."""
    at = np.arange(12)
    path = smooth(np.column_stack([np.full(12, 100.0), np.full(12, 90.0), np.full(12, 80.0), np.where(at % 2, 3.1, -3.1)]), at / 15)
    assert (np.cos(path[:, 3]) < -0.99).all() and np.allclose(path[:, :3], [100, 90, 80])


def test_place_undoes_turn_shift_and_scale(person):
    from media.detect import FaceFinder

    mesh = FaceFinder(SMALL).find(person[0])[0].landmarks.astype(np.float64)
    x, y, side, roll = place(mesh)
    cos, sin = 1.7 * np.cos(0.4), 1.7 * np.sin(0.4)
    moved = mesh @ np.array([[cos, sin], [-sin, cos]]) + [30, -12]
    assert place(moved) == pytest.approx([cos * x - sin * y + 30, sin * x + cos * y - 12, 1.7 * side, roll + 0.4], abs=1e-3)


def test_a_strong_shrink_does_not_alias():
    """A fine chequerboard has only its mean grey left at a tenth of the size; point sampling would leave stripes."""
    board = (np.indices((900, 900)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    small = warp(board, crop_transform(np.array([450.0, 450.0, 600.0, 0.2]), 1.0, 60), 60)
    assert small.std() < 3 and abs(small.mean() - 127.5) < 2


@pytest.mark.parametrize("shrink", [1, 3, 7.3])
def test_a_warp_puts_points_where_the_matrix_says(shrink):
    picture = np.zeros((500, 600, 3), np.uint8)
    cv2.circle(picture, (285, 222), 6, (255, 255, 255), -1)
    matrix = crop_transform(np.array([280.0, 230.0, 40 * shrink, 0.3]), 1.3, 100)
    weight = warp(picture, matrix, 100)[:, :, 0].astype(float)
    ys, xs = np.indices(weight.shape) + 0.5
    centre = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
    expected = matrix[:, :2] @ [285.5, 222.5] + matrix[:, 2]
    assert np.abs(centre - expected).max() < 0.15


@pytest.mark.parametrize("name", ["no_face.mp4", "empty.mp4", "not_a_video.mp4", "truncated.mp4"])
def test_shared_edge_files_without_a_verdict(shared_data, name):
    reasons = {"no_face.mp4": "no face found", "empty.mp4": "empty file", "not_a_video.mp4": "not a media file", "truncated.mp4": "truncated or corrupt"}
    found = extract_clips(shared_data / "edge" / name, FaceSettings())
    assert not found.clips and found.reason == reasons[name]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("crowd.mp4", 3, 5), ("two_people_cuts.mp4", 4, 5), ("painting_5fps.mp4", 1, 1), ("cartoon.mp4", 1, 1), ("scene_cuts.mp4", 2, 5)],
)
def test_shared_edge_files_with_faces(shared_data, name, least, most):
    found = extract_clips(shared_data / "edge" / name, FaceSettings())
    assert found.reason == "" and least <= found.faces <= most


def test_one_talking_head_is_one_track(shared_data):
    """Of ten real clips, all frames have the face and at most one person is taken for two."""
    names = sorted((shared_data / "real" / "clips").glob("*.mp4"))[:20:2]
    results = [extract_clips(path, FaceSettings(size_px=96, fps=10.0, clip_frames=8, clips_per_video=3)) for path in names]
    assert all(found.frames_with_face >= 0.95 * found.frames_seen for found in results)
    assert sum(found.faces > 1 for found in results) <= 1


def test_damaged_files_never_raise(video):
    """Flipped, cut and shuffled bytes of a real file: a result or a reason each time, and no hang."""
    content = video.read_bytes()
    rng = np.random.default_rng(11)
    for turn in range(40):
        hurt = bytearray(content)
        for at in rng.integers(0, len(hurt), 1 + turn):
            hurt[at] ^= int(rng.integers(1, 256))
        if turn % 3 == 0:
            hurt = hurt[: int(rng.integers(1, len(hurt)))]
        found = extract_clips(bytes(hurt), SMALL, 1 + turn % 3)
        assert bool(found.clips) != bool(found.reason)


def test_the_skin_tone_orders_light_and_dark_cheeks_and_is_unknown_of_grey_ones() -> None:
    marks = np.full((2, 468, 2), 0.5, np.float32)

    def clip_of(colour: tuple[int, int, int]) -> np.ndarray:
        return np.broadcast_to(np.array(colour, np.uint8), (2, 64, 64, 3)).copy()

    light, tan, dark = (skin_tone(clip_of(colour), marks) for colour in ((240, 205, 185), (190, 140, 105), (80, 50, 38)))
    assert light > 41 > tan > 10 > dark
    assert np.isnan(skin_tone(clip_of((128, 128, 128)), marks)) and np.isnan(skin_tone(clip_of((90, 110, 200)), marks))
    assert skin_tone(clip_of((190, 140, 105)), np.full((2, 468, 2), np.nan, np.float32)) == pytest.approx(tan), "a mesh that was lost does not raise"
