"""Frames by time stamp, upright, in any container; and a reason for every file that is none."""

import gc
import io
import os
import struct
import zlib
from bisect import bisect_right
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import media.decode
import media.transport
from media.avif import as_shown, depth_of
from media.decode import REASONS, measured_seconds, probe, read_frames, read_image, shown_seconds
from media.transport import parts_of
from tests.media.videos import grey_steps, number_of, rewritten, shown_by, turned_clockwise, with_exif_turn, with_sound, write_video
from workspace.errors import MediaError


def numbers(source, times):
    return [(round(time, 3), number_of(picture)) for time, picture in read_frames(source, times)]


def all_that_is_decoded(monkeypatch):
    """A list that grows by every frame that is decoded from now on."""
    decoded, plain = [], media.decode._decoded

    def counted(*words):
        for frame in plain(*words):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(media.decode, "_decoded", counted)
    return decoded


def corner_mark(height=60, width=80):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)  # red, top left
    return picture


def is_red(pixel):
    return pixel[0] > 150 and pixel[1] < 90 and pixel[2] < 90


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_times_pick_the_frame_that_is_shown(tmp_path, name):
    source = write_video(tmp_path / name, grey_steps(25), fps=25)
    wanted = [0.0, 0.05, 0.1, 0.39, 0.40, 0.41, 0.9]
    assert numbers(source, wanted) == [(0.0, 0), (0.05, 1), (0.1, 2), (0.39, 9), (0.4, 10), (0.41, 10), (0.9, 22)]


def test_pictures_that_grow_behind_the_header_beyond_all_bounds_are_passed_over(tmp_path, monkeypatch):
    """What is too large in the header of a file was handed out at any size where the stream grew."""
    small = write_video(tmp_path / "a.ts", grey_steps(20))
    large = write_video(tmp_path / "b.ts", [np.full((512, 512, 3), 90, np.uint8)] * 5, [1000 + 40 * k for k in range(5)])
    joined = small.read_bytes() + large.read_bytes()
    sizes = {picture.shape[0] for _, picture in read_frames(joined, [k / 10 for k in range(12)])}
    assert max(sizes) == 512
    monkeypatch.setattr(media.decode, "MAX_PIXELS", 512 * 511)
    assert max(picture.shape[0] for _, picture in read_frames(joined, [k / 10 for k in range(12)])) < 512
    with pytest.raises(MediaError, match="too large"):
        probe(large)


def test_bytes_and_path_are_the_same(tmp_path):
    source = write_video(tmp_path / "a.mp4", grey_steps(20))
    times = [k / 30 for k in range(30)]
    assert numbers(source, times) == numbers(source.read_bytes(), times)
    assert probe(source) == probe(source.read_bytes())


def test_a_variable_frame_rate_goes_by_the_clock(tmp_path):
    stamps = [0, 40, 80, 500, 540, 1500, 1540, 1580]
    source = write_video(tmp_path / "a.mp4", grey_steps(8), stamps)
    assert numbers(source, [0.0, 0.3, 0.49, 0.5, 1.0, 1.45, 1.55]) == [(0.0, 0), (0.3, 2), (0.49, 2), (0.5, 3), (1.0, 4), (1.45, 4), (1.55, 6)]


FALSE_STAMPS = {"one": [10], "five in a row": range(10, 15), "every third": range(2, 20, 3), "as many as may be": range(3, 11)}


@pytest.mark.parametrize("ahead_seconds", [1, 20, 3600])
@pytest.mark.parametrize("false", FALSE_STAMPS.values(), ids=FALSE_STAMPS.keys())
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_picture_that_is_stamped_far_ahead_hides_no_other(tmp_path, name, false, ahead_seconds):
    """It was taken for the next one: the picture before it stood for all that followed, and no window of a video lay where the pictures are."""

    def ahead(number, packet):
        packet.pts += 1000 * ahead_seconds * (number in false)
        yield packet

    source = rewritten(write_video(tmp_path / "plain.mkv", [*grey_steps(30), *grey_steps(30)], gop=10), tmp_path / name, ahead)
    true = [k for k in range(60) if k not in false and (ahead_seconds > 1 or k < 25)]
    assert numbers(source, [k / 25 for k in true]) == [(k / 25, k % 30) for k in true]
    assert measured_seconds(source) == pytest.approx(2.4, abs=0.05)


def test_a_first_picture_that_is_stamped_far_ahead_hides_no_other(tmp_path):
    def ahead(number, packet):
        packet.pts += 20_000 * (number == 0)
        yield packet

    source = rewritten(write_video(tmp_path / "plain.mkv", grey_steps(30), gop=10), tmp_path / "a.mkv", ahead)
    assert numbers(source, [k / 25 for k in range(29)]) == [(k / 25, k + 1) for k in range(29)]
    assert measured_seconds(source) == pytest.approx(1.16, abs=0.05)


def test_pictures_out_of_order_are_shown_at_their_times(tmp_path):
    """A picture that came after others of a later time was shown in their place."""
    order = {number: number + 1 if number % 2 else number - 1 for number in range(5, 25)}

    def changed(number, packet):
        packet.pts = 40 * order.get(number, number)
        packet.dts = 40 * number - 200
        yield packet

    source = rewritten(write_video(tmp_path / "plain.mkv", grey_steps(30), gop=10), tmp_path / "a.mp4", changed)
    shown = {stamp: number for number, stamp in order.items()}
    assert numbers(source, [k / 25 for k in range(30)]) == [(k / 25, shown.get(k, k)) for k in range(30)]


def test_pictures_of_a_time_long_past_at_the_end_make_a_video_no_more_than_a_few_pictures_shorter(tmp_path):
    def back(number, packet):
        packet.pts, packet.dts = packet.pts - 1600 * (number >= 42), 0
        yield packet

    source = rewritten(write_video(tmp_path / "plain.mkv", [*grey_steps(30), *grey_steps(30)], gop=10), tmp_path / "a.mkv", back)
    assert measured_seconds(source) == pytest.approx(1.05, abs=0.05)
    assert numbers(source, [1.0, 1.6]) == [(1.0, 25), (1.6, 10)]


@pytest.mark.parametrize("false", [[50], [45, 58], [43, 44, 45]])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_picture_near_the_end_that_is_stamped_far_ahead_makes_a_video_no_longer(tmp_path, name, false):
    def ahead(number, packet):
        packet.pts += 3_600_000 * (number in false)
        yield packet

    source = rewritten(write_video(tmp_path / "plain.mkv", [*grey_steps(30), *grey_steps(30)], gop=10), tmp_path / name, ahead)
    assert measured_seconds(source) == pytest.approx(2.4, abs=0.05)


@pytest.mark.parametrize(("most_pixels", "ahead"), [(64 * 48, 1), (3 * 64 * 48, 3), (10**6, media.decode.HELD)])
def test_of_large_pictures_fewer_are_held_in_memory(monkeypatch, most_pixels, ahead):
    monkeypatch.setattr(media.decode, "MAX_PIXELS", most_pixels)
    read = []

    def frames():
        for number in range(30):
            read.append(number)
            yield SimpleNamespace(frame=SimpleNamespace(pts=number, width=64, height=48))

    for shown, picture in enumerate(media.decode._in_order(frames())):
        assert picture.frame.pts == shown and len(read) <= shown + 1 + ahead
    assert shown == 29


@pytest.mark.parametrize("name", ["a.avi", "a.asf", "a.mxf", "a.mp4"])
def test_pictures_that_an_avi_holds_in_decoding_order_are_shown_in_theirs(tmp_path, name):
    """Codecs whose pictures refer to later ones: an AVI has no place for the time at which each is shown, nor has an MXF of H.264."""
    source = write_video(tmp_path / name, grey_steps(30), gop=30, preset="veryfast", options={"b-adapt": "0", "bf": "3"})
    assert numbers(source, [k / 25 for k in range(30)]) == [(k / 25, k) for k in range(30)]
    assert numbers(source, [0.2, 0.44, 0.8]) == [(0.2, 5), (0.44, 11), (0.8, 20)]


@pytest.mark.parametrize("name", ["a.avi", "a.asf", "a.mp4"])
def test_a_video_whose_first_picture_stands_long_is_as_long_as_all_of_its_pictures(tmp_path, name):
    """FFmpeg stamps a packet of H.264 in AVI and ASF with the time of the next one: the time that the first picture stands was cut from the end."""
    times = [0] + [7000 + 40 * k for k in range(29)]
    source = write_video(tmp_path / name, grey_steps(30), times)
    assert shown_seconds(source, probe(source)) == pytest.approx(8.16, abs=0.05)
    assert numbers(source, [0.0, 6.9, 7.5, 8.1]) == [(0.0, 0), (6.9, 0), (7.5, 13), (8.1, 28)]


def test_of_several_streams_the_one_is_read_that_a_player_shows(tmp_path):
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w", container_options={"default_mode": "passthrough"}) as container:
        for shown in (False, True):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            stream.disposition = av.stream.Disposition.default if shown else av.stream.Disposition(0)
        for stream, shade in zip(container.streams.video, (40, 200), strict=True):
            for _ in range(10):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")))
            container.mux(stream.encode())
    with av.open(str(source)) as container:
        assert [bool(one.disposition & av.stream.Disposition.default) for one in container.streams.video] == [False, True]
    assert [round(float(picture.mean()) / 10) for _, picture in read_frames(source, [0.0, 0.2])] == [20, 20]


def test_what_an_edit_list_leaves_out_has_no_length(tmp_path):
    """As a phone writes a film that was trimmed: all of it is in the file, a second of it is shown."""
    content = bytearray(write_video(tmp_path / "a.mp4", [*grey_steps(30), *grey_steps(30)], gop=60, preset="veryfast").read_bytes())
    at = content.index(b"elst") + 12  # of the one entry: how long, from where
    content[at : at + 4] = (1000).to_bytes(4, "big")
    assert measured_seconds(bytes(content)) == pytest.approx(1.0, abs=0.1)
    assert probe(bytes(content)).duration_seconds == pytest.approx(1.0, abs=0.1)


def test_times_count_from_the_first_frame(tmp_path):
    source = write_video(tmp_path / "a.mkv", grey_steps(10), [2000 + 40 * k for k in range(10)])
    assert numbers(source, [0.0, 0.2]) == [(0.0, 0), (0.2, 5)]


@pytest.mark.parametrize("begins_seconds", [0.5, 3, 600])
def test_a_video_is_as_long_as_it_is_shown_however_late_it_begins(tmp_path, begins_seconds):
    """By a tenth of its length too long, a video of over a minute was no copy of itself."""
    stamps = [round(1000 * (begins_seconds + k)) for k in range(30)]
    late = write_video(tmp_path / "a.mkv", grey_steps(30), stamps, fps=1)
    assert probe(late).duration_seconds == pytest.approx(30 + begins_seconds, abs=0.1)
    assert shown_seconds(late, probe(late)) == pytest.approx(30, abs=0.1)


def test_where_packets_do_not_tell_when_the_last_pictures_are_shown_the_header_does(tmp_path):
    source = write_video(tmp_path / "a.avi", grey_steps(30), fps=1, gop=30, preset="veryfast", options={"b-adapt": "0", "bf": "3"})
    assert measured_seconds(source) < 29.5 < shown_seconds(source, probe(source)) < 30.5


@pytest.mark.parametrize("apart_seconds", [4, 20, 1800])
@pytest.mark.parametrize("count", [3, 12, 30])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_pictures_that_stand_long_are_shown_to_the_end_though_they_come_out_of_order(tmp_path, name, count, apart_seconds):
    """The last was taken for one that is stamped far ahead of those that follow it in the file: of three an hour apart, half of the video was looked at."""
    stamps = [1000 * apart_seconds * k for k in range(count)]
    source = write_video(tmp_path / name, grey_steps(count), stamps, gop=30, preset="veryfast", options={"b-adapt": "0", "bf": "3"})
    last = stamps[-1] / 1000
    assert measured_seconds(source) == pytest.approx(last, abs=0.1) and shown_seconds(source, probe(source)) == pytest.approx(last, abs=0.1)
    assert numbers(source, [last - 1, last]) == [(last - 1, count - 2), (last, count - 1)]


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "b.ts"])
def test_a_film_that_follows_its_sound_begins_where_a_player_shows_it(tmp_path, name):
    late = write_video(tmp_path / "a.mkv", grey_steps(10), [2000 + 40 * k for k in range(10)])
    assert probe(late).begins_seconds == 0, "alone, a player begins with it"
    source = with_sound(late, tmp_path / name)
    assert probe(source).begins_seconds == pytest.approx(2, abs=0.1), "an encoder may put a little before its sound"
    assert numbers(source, [0.0, 0.2]) == [(0.0, 0), (0.2, 5)], "times count from the first frame all the same"


def test_a_film_that_begins_with_pictures_that_nobody_can_decode_begins_after_them(tmp_path):
    def without_the_first(number, packet):
        return [packet] if number >= 5 else []

    cut = rewritten(write_video(tmp_path / "a.mkv", grey_steps(30), gop=10), tmp_path / "b.mkv", without_the_first)
    assert probe(cut).begins_seconds == pytest.approx(0.2) and numbers(cut, [0.0]) == [(0.0, 10)]


def test_times_after_the_end_are_absent(tmp_path):
    source = write_video(tmp_path / "a.mp4", grey_steps(10), fps=10)
    assert [time for time, _ in read_frames(source, [0.5, 0.95, 1.0, 1.5, 60.0])] == [0.5, 0.95]


def test_one_frame_is_one_array_however_often_it_is_asked_for(tmp_path):
    source = write_video(tmp_path / "a.mp4", grey_steps(5), fps=5)
    pictures = [picture for _, picture in read_frames(source, [0.0, 0.1, 0.2, 0.3])]
    assert pictures[0] is pictures[1] and pictures[2] is pictures[3] and pictures[1] is not pictures[2]


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast"])
@pytest.mark.parametrize(("suffix", "starts_ms"), [(".ogg", 0), *((suffix, ms) for suffix in (".ts", ".mpg") for ms in (0, 2000, 20_000, 1_000_000))])
def test_streams_that_were_joined_byte_by_byte_are_read_to_the_end(tmp_path, suffix, starts_ms, preset):
    """Each part has times of its own: the second was passed over, or lay behind a picture that stood for a quarter of an hour."""
    noise = np.random.default_rng(1).integers(-40, 40, (75, 48, 64, 3))  # of small pictures several share a time stamp
    stamps = [range(start, start + 3000, 40) for start in (0, starts_ms)]
    how: dict = {"codec": "libvpx"} if suffix == ".ogg" else {"preset": preset}
    parts = [write_video(tmp_path / f"{grey}{suffix}", (noise + grey).astype(np.uint8), ms, **how) for grey, ms in zip((60, 180), stamps, strict=True)]
    source = tmp_path / f"joined{suffix}"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert measured_seconds(source) == pytest.approx(6.0, abs=0.1) and probe(source).duration_seconds == pytest.approx(6.0, abs=0.1)
    shown = [(time, round(float(picture.mean()) / 60)) for time, picture in read_frames(source, [0.0, 2.8, 3.2, 4.0, 5.8, 7.0])]
    assert shown == [(0.0, 1), (2.8, 1), (3.2, 3), (4.0, 3), (5.8, 3)]


@pytest.mark.parametrize(("order", "codec"), [("12", "libx264"), ("21", "libx264"), ("121", "libx264"), ("12", "libx265")])
@pytest.mark.parametrize("tables", [{}, {"mpegts_pmt_start_pid": "4200"}, {"mpegts_service_id": "7"}], ids=["same table", "another table", "another program"])
def test_a_joined_stream_is_read_to_its_end_though_its_pictures_go_on_under_another_number(tmp_path, tables, order, codec):
    """What a player takes for another stream was never looked at: ten forged seconds behind three real ones were not seen."""
    noise = np.random.default_rng(1).integers(-40, 40, (75, 48, 64, 3))
    how = {"1": {}, "2": {"codec": codec, "muxer": {"mpegts_start_pid": "512", **tables}}}
    parts = {one: write_video(tmp_path / f"{one}.ts", (noise + 60 * int(one)).astype(np.uint8), **how[one]).read_bytes() for one in "12"}
    source = tmp_path / "joined: one, two.ts"
    source.write_bytes(b"".join(parts[one] for one in order))
    length = pytest.approx(3.0 * len(order), abs=0.05 * len(order))  # the last packet of a part does not say how long it is
    times = [3 * place + at for place in range(len(order)) for at in (0.1, 2.8)]
    for content in (source, source.read_bytes()):
        assert measured_seconds(content) == length and probe(content).duration_seconds == length
        shown = [round(float(picture.mean()) / 60) for _, picture in read_frames(content, times)]
        assert shown == [int(one) for one in order for _ in range(2)]


def test_of_programs_that_were_broadcast_together_the_one_is_read_that_a_player_shows(tmp_path):
    source = tmp_path / "a.ts"
    with av.open(str(source), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(75):
            for stream, shade in zip(streams, (60, 180), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert parts_of(source) == [] and measured_seconds(source) == pytest.approx(3.0, abs=0.1)
    assert [round(float(picture.mean()) / 60) for _, picture in read_frames(source, [0.1, 2.8])] == [1, 1]


@pytest.mark.parametrize("at_once", [media.transport.AT_ONCE, 4096, 1000])
def test_parts_are_found_wherever_the_one_before_was_cut_and_however_little_is_read_at_once(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(media.transport, "AT_ONCE", at_once)
    noise = np.random.default_rng(1).integers(-40, 40, (30, 48, 64, 3))
    first, second = (
        write_video(tmp_path / f"{pid}.ts", (noise + 60).astype(np.uint8), muxer={"mpegts_start_pid": str(pid)}).read_bytes() for pid in (256, 512)
    )
    cut = first[: len(first) * 2 // 3 + 77]
    (one, two) = parts_of(cut + second)
    assert (one.pid, two.pid, one.begin, two.end) == (256, 512, 0, None) and two.begin < len(cut) < one.end
    assert [part.pid for part in parts_of(first)] == [256]


def test_a_recording_whose_sound_comes_and_goes_is_read_to_the_end(tmp_path):
    """PyAV keeps a list of the streams that a file begins with, and stumbles at the end over one that came later, with whatever lay behind that list."""
    noise = np.random.default_rng(1).integers(-40, 40, (75, 48, 64, 3))
    silent = [write_video(tmp_path / f"{grey}.ts", (noise + grey).astype(np.uint8)) for grey in (60, 120)]
    heard = with_sound(write_video(tmp_path / "180.ts", (noise + 180).astype(np.uint8)), tmp_path / "heard.ts")
    source = tmp_path / "joined.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in (silent[0], heard, silent[1])))
    for _ in range(4):  # what lies there is another thing each time
        assert probe(source).duration_seconds == pytest.approx(9.0, abs=0.2)
        assert [round(float(picture.mean()) / 60) for _, picture in read_frames(source, [1.0, 4.0, 8.0, 8.8])] == [1, 3, 2, 2]


def test_a_pause_in_a_recording_is_no_new_clock(tmp_path):
    source = write_video(tmp_path / "a.ts", grey_steps(20), [40 * k + (5000 if k >= 10 else 0) for k in range(20)], preset="veryfast")
    assert numbers(source, [0.2, 3.0, 5.5]) == [(0.2, 5), (3.0, 9), (5.5, 12)] and measured_seconds(source) == pytest.approx(5.8, abs=0.1)


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast"])
@pytest.mark.parametrize("gop", [1, 10, 300])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_seek_changes_nothing_but_the_time_it_takes(tmp_path, name, gop, preset):
    frames = [np.full((32, 32, 3), (k % 6) * 40 + 10, np.uint8) for k in range(250)]
    source = write_video(tmp_path / name, frames, fps=25, gop=gop, preset=preset)
    whole = {round(time, 2): picture for time, picture in read_frames(source, [k / 25 for k in range(250)])}
    for times in ([9.0, 9.04, 9.96], [1.0, 4.0, 8.52], [0.0, 6.0], [5.0]):
        picked = list(read_frames(source, times))
        assert [time for time, _ in picked] == times
        assert all(np.array_equal(picture, whole[time]) for time, picture in picked)


@pytest.mark.parametrize(("preset", "most"), [("ultrafast", 90), ("veryfast", 60)])
def test_what_no_wanted_time_needs_is_not_decoded(tmp_path, monkeypatch, preset, most):
    """Nothing before the last key frame ahead of a wanted time, and between wanted times only what others are built on."""
    source = write_video(tmp_path / "a.mp4", [np.full((32, 32, 3), (k % 6) * 40 + 10, np.uint8) for k in range(250)], fps=25, gop=80, preset=preset)
    decoded = all_that_is_decoded(monkeypatch)
    assert len(list(read_frames(source, [9.5, 9.6]))) == 2
    assert 2 <= len(decoded) <= most + 2 * media.decode.HELD, "held back at the beginning, and at the wanted place"


def test_of_pictures_between_wanted_ones_only_those_are_decoded_that_others_are_built_on(tmp_path, monkeypatch):
    y, x = np.mgrid[:64, :64]
    waves = [((np.sin((x + k) / 6) + np.cos(y / 9)) * 50 + 120).astype(np.uint8) for k in range(100)]
    source = write_video(tmp_path / "a.mp4", [np.stack([wave] * 3, axis=-1) for wave in waves], fps=25, gop=300, preset="veryfast")
    decoded = all_that_is_decoded(monkeypatch)
    assert len(list(read_frames(source, [k / 25 for k in range(0, 100, 10)]))) == 10
    assert 10 <= len(decoded) <= 75


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_last_moment_of_a_picture_is_its_own_however_long_it_is_shown(tmp_path, name):
    """A packet of an MP4 says how long it is until the next one is decoded, not how long its picture is shown."""
    steps = np.random.default_rng(1).choice([20, 40, 80, 300], 100)
    ends = np.cumsum(steps)
    y, x = np.mgrid[:64, :64]
    shades = [10 + 8 * (k % 30) + (np.sin((x + k) / 6) + np.cos(y / 9)) for k in range(100)]
    frames = [np.repeat(shade.astype(np.uint8)[..., None], 3, axis=-1) for shade in shades]
    source = write_video(tmp_path / name, frames, [0, *map(int, ends[:-1])], gop=300, preset="veryfast")
    moments = [(int(end) - 10) / 1000 for end in ends[:-1]]
    assert [numbers(source, [moment]) for moment in moments] == [[(moment, k % 30)] for k, moment in enumerate(moments)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 40), min_size=20, max_size=60),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=15),
    st.sampled_from(["a.mp4", "a.mkv", "a.mov"]),
)
def test_whatever_is_passed_over_the_picture_is_the_one_that_the_clock_says(tmp_path_factory, steps, places, name):
    stamps = [10 * sum(steps[:k]) for k in range(len(steps))]
    frames = [np.full((32, 32, 3), 10 + 8 * (k % 30), np.uint8) for k in range(len(steps))]
    source = write_video(tmp_path_factory.mktemp("clock") / name, frames, stamps, gop=25, preset="veryfast")
    times = sorted(round(place * stamps[-1] / 10) / 100 for place in places)
    shown = [bisect_right(stamps, round(time * 1000)) - 1 for time in times]
    assert numbers(source, times) == [(time, number % 30) for time, number in zip(times, shown, strict=True)]


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.asf"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_a_video_so_short_that_its_frames_come_at_once_loses_none(tmp_path, count, name):
    """Where an AVI or ASF says when pictures are decoded, one of so few that none came before the end was called corrupt."""
    source = write_video(tmp_path / name, grey_steps(count), fps=10, gop=30, preset="veryfast")
    assert probe(source).codec == "h264"
    assert numbers(source, [k / 10 for k in range(count)]) == [(k / 10, k) for k in range(count)]


def test_pictures_of_an_avi_that_come_at_the_end_only_are_not_taken_for_the_first_after_a_seek(tmp_path):
    """The last two hang together and come out of the decoder with its end: no packet says when they are shown."""
    source = write_video(tmp_path / "a.avi", grey_steps(26), gop=24, preset="veryfast", options={"b-adapt": "0", "bf": "3"})
    for number in range(26):
        assert numbers(source, [0.0, number / 25]) == [(0.0, 0), (number / 25, number)]


def test_falling_times_are_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="fall"):
        list(read_frames(write_video(tmp_path / "a.mp4", grey_steps(3)), [0.1, 0.0]))


def test_probe_reports_the_video(tmp_path):
    info = probe(write_video(tmp_path / "a.mp4", grey_steps(20), fps=10))
    assert (info.kind, info.width, info.height, info.frames, info.codec) == ("video", 64, 48, 20, "h264")
    assert info.fps == pytest.approx(10, abs=0.01) and info.duration_seconds == pytest.approx(2, abs=0.11)


@pytest.mark.parametrize("count", [2, 4, 30])
def test_a_recording_without_a_length_in_its_header_is_as_long_as_its_pictures(tmp_path, count):
    """As browsers and OBS write it: what the decoder had taken already was not counted, of a short one all."""
    with_length = write_video(tmp_path / "a.mp4", grey_steps(count), preset="veryfast")
    with av.open(str(with_length)) as container, av.open(str(tmp_path / "b.mkv"), "w", container_options={"live": "1"}) as written:
        target = written.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = target
                written.mux(packet)
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert not container.duration and not container.streams.video[0].duration
    info = probe(tmp_path / "b.mkv")
    assert info.duration_seconds == pytest.approx(count / 25, abs=0.01)
    assert shown_seconds(tmp_path / "b.mkv", info) == pytest.approx(count / 25, abs=0.01)


def test_a_phone_video_is_turned_upright(tmp_path):
    content = turned_clockwise(write_video(tmp_path / "a.mp4", [corner_mark()] * 3).read_bytes())
    info = probe(content)
    ((_, picture),) = read_frames(content, [0.0])
    assert (info.width, info.height) == (60, 80) and picture.shape == (80, 60, 3)
    assert is_red(picture[5, -5]) and not is_red(picture[5, 5]) and not is_red(picture[-5, 5])


MATRICES = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_a_video_is_shown_as_its_display_matrix_says_mirrored_too(tmp_path, matrix):
    """Where it mirrors, only its turn was followed, which stood people on their heads."""
    a, b, c, d = matrix
    corners = np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]])  # x and y of left top, right top, left bottom, right bottom
    ((x, y),) = (np.array([[a, c], [b, d]]) @ corners).T[:1]  # where the left top goes
    content = shown_by(write_video(tmp_path / "a.mp4", [corner_mark()] * 3).read_bytes(), matrix)
    ((_, picture),) = read_frames(content, [0.0])
    info = probe(content)
    assert picture.shape[:2] == (info.height, info.width) == ((60, 80) if a else (80, 60))
    places = {(-1, -1): (5, 5), (1, -1): (5, -5), (-1, 1): (-5, 5), (1, 1): (-5, -5)}
    assert [place for place, at in places.items() if is_red(picture[at])] == [(x, y)]


@pytest.mark.parametrize("matrix", MATRICES[:4], ids=str)
def test_a_video_is_upright_though_what_lies_beside_its_pictures_has_no_name(tmp_path, matrix):
    """PyAV then tells of nothing that lies there, of the display matrix neither: of a phone's HDR film, say."""

    class WithoutNames:
        def get(self, kind):
            raise ValueError(kind)

    with av.open(io.BytesIO(shown_by(write_video(tmp_path / "a.mp4", [corner_mark()] * 2).read_bytes(), matrix))) as container:
        frame = next(container.decode(video=0))
    assert media.decode._turns(SimpleNamespace(rotation=frame.rotation, side_data=WithoutNames())) == media.decode._turns(frame)


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, 1)], ids=str)
def test_a_frame_leaves_memory_when_the_next_one_comes(tmp_path, matrix):
    """A frame that was asked for its display matrix stays until Python looks for cycles; asked one by one, a clip of 1080p kept 1.6 GB."""
    content = shown_by(write_video(tmp_path / "a.mp4", [corner_mark()] * 40).read_bytes(), matrix)
    before = {id(one) for one in gc.get_objects() if isinstance(one, av.VideoFrame)}
    gc.disable()
    try:
        assert len(list(read_frames(content, [number / 25 for number in range(40)]))) == 40
        left = [one for one in gc.get_objects() if isinstance(one, av.VideoFrame) and id(one) not in before]
    finally:
        gc.enable()
    assert len(left) <= 2


@pytest.mark.parametrize(
    ("ratio", "size"),
    [("2", (240, 480)), ("1/2", (480, 240)), ("4/3", (360, 480)), ("20", (60, 480)), ("1/20", (480, 60)),
     *((nearly, (480, 480)) for nearly in ("14720/14719", "101/100", "99/100"))],
)  # fmt: skip
def test_pixels_that_are_not_square_are_made_so(tmp_path, ratio, size):
    """Faces came in squashed, whatever the header said of the pixels."""
    y, x = np.mgrid[:480, :480]
    round_one = np.repeat(np.where(np.hypot(x - 200, y - 260) < 150, 220, 40).astype(np.uint8)[..., None], 3, axis=-1)
    stored = cv2.resize(round_one, size, interpolation=cv2.INTER_AREA)
    source = write_video(tmp_path / "a.mp4", [stored] * 3, pixel=Fraction(ratio))
    ((_, picture),) = read_frames(source, [0.0])
    info = probe(source)
    assert (info.height, info.width) == picture.shape[:2] == (480, 480)
    assert np.abs(picture.astype(int) - round_one).mean() < 4
    if size == (480, 480):
        assert np.array_equal(picture, next(read_frames(write_video(tmp_path / "b.mp4", [stored] * 3), [0.0]))[1]), "what is nearly square is not touched"


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize("widths", [(240, 120, 160), (120, 160, 240)], ids=str)
def test_where_pixels_change_their_shape_within_a_recording_each_picture_has_its_own(tmp_path, suffix, widths):
    """As a TV's do from 4:3 to 16:9: those of the first part were taken for all, and faces of the next came in squashed."""
    y, x = np.mgrid[:240, :240]
    round_one = np.repeat(np.where(np.hypot(x - 120, y - 120) < 80, 220, 40).astype(np.uint8)[..., None], 3, axis=-1)
    source = tmp_path / f"joined{suffix}"
    with open(source, "wb") as joined:
        for number, width in enumerate(widths):
            stored = cv2.resize(round_one, (width, 240), interpolation=cv2.INTER_AREA)
            pixel = Fraction(240, width) if width < 240 else None
            part = write_video(tmp_path / f"{width}{suffix}", [stored] * 40, range(1600 * number, 1600 * (number + 1), 40), pixel=pixel, preset="veryfast")
            joined.write(part.read_bytes())
    pictures = [picture for _, picture in read_frames(source, [0.8, 2.4, 4.0])]
    assert len(pictures) == 3 and all(np.abs(picture.astype(int) - round_one).mean() < 4 for picture in pictures)


def woven(path, codec="libx264", **options):
    """A film of two moments a picture: a grey one in its even rows, which a TV shows first, and a bright red one in the others."""
    picture = np.empty((72, 64), np.uint8)
    picture[:48:2], picture[1:48:2] = 90, 160
    picture[48:, :32], picture[48:60, 32:], picture[60:, 32:] = 128, 90, 220  # two rows of colour lie in one of these
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.options = {"crf": "4", **options}
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_of_an_interlaced_picture_one_moment_is_shown(tmp_path, matrix):
    """Two were shown in one, in the rows of a comb and with each other's colours: real people looked forged by it."""
    content = shown_by(woven(tmp_path / "a.mp4", **{"x264-params": "tff=1"}).read_bytes(), matrix)
    ((_, picture),) = read_frames(content, [0.0])
    info = probe(content)
    assert picture.shape[:2] == (info.height, info.width) == ((48, 64) if matrix[0] else (64, 48))
    assert np.abs(picture.astype(int) - picture[0, 0, 0]).max() < 6


@pytest.mark.parametrize(("codec", "options"), [("libx264", {}), ("libx265", {"x265-params": "interlace=tff:log-level=none"})])
def test_of_a_picture_that_holds_one_moment_all_rows_are_shown(tmp_path, codec, options):
    """One that says nothing of fields, and one of HEVC, which is a field itself where it does."""
    ((_, picture),) = read_frames(woven(tmp_path / "a.mp4", codec, **options), [0.0])
    assert picture[1::2, :, 0].mean() - picture[::2, :, 0].mean() > 40


def test_a_phone_photo_is_turned_upright():
    jpeg = cv2.imencode(".jpg", corner_mark()[:, :, ::-1])[1].tobytes()
    assert is_red(read_image(jpeg)[5, 5])
    picture = read_image(with_exif_turn(jpeg))
    assert picture.shape == (80, 60, 3) and is_red(picture[5, -5]) and not is_red(picture[5, 5])


TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270")  # from upright to stored, of 2 to 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("see_through", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_photos_are_shown_as_their_orientation_says_and_see_through_parts_turn_with_them(kind, see_through, orientation):
    """An AVIF came in as it was stored, with alpha in wrong colours too; of others other parts were laid over grey."""
    shown = Image.fromarray(np.random.default_rng(1).integers(0, 255, (3, 4, 3), dtype=np.uint8)).resize((80, 60))
    expected = np.asarray(shown).astype(float)
    if see_through:
        alpha = np.full((60, 80), 255, np.uint8)
        alpha[:15] = 51
        shown.putalpha(Image.fromarray(alpha))
        expected[:15] = 0.2 * expected[:15] + 0.8 * 127
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    how = {"AVIF": {"quality": 95, "subsampling": "4:4:4"}, "WEBP": {"lossless": True, "exact": True}, "PNG": {}}[kind]
    stored = shown if orientation == 1 else shown.transpose(Image.Transpose[TURNS[orientation - 2]])
    stored.save(content, kind, exif=exif, **how)
    picture = read_image(content.getvalue())
    assert picture.shape == expected.shape and np.abs(picture - expected).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_photos_that_move_are_shown_as_their_orientation_says(kind, mode, orientation):
    """OpenCV tells of no EXIF entry of a PNG that moves, nor reads one that begins with its name, as Pillow writes it: faces lay on their side."""
    shown = Image.fromarray(np.random.default_rng(1).integers(0, 255, (3, 4, 3), dtype=np.uint8)).resize((80, 60))
    expected, stored = np.asarray(shown).astype(float), shown.convert(mode)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[TURNS[orientation - 2]])
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored.save(content, kind, exif=exif, lossless=True, save_all=True, append_images=[Image.new(mode, stored.size)], duration=100)
    picture = read_image(content.getvalue())
    assert picture.shape == expected.shape and np.abs(picture - expected).mean() < 4


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_exif_entry_may_begin_with_its_name(kind, named):
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(corner_mark()).save(content, kind, exif=exif, lossless=True)
    chunks = content.getvalue()
    if named and kind == "WEBP":  # the last chunk of its file
        body = b"Exif\0\0" + chunks[chunks.index(b"EXIF") + 8 :]
        chunks = chunks[: chunks.index(b"EXIF")] + b"EXIF" + struct.pack("<I", len(body)) + body
        chunks = chunks[:4] + struct.pack("<I", len(chunks) - 8) + chunks[8:]
    elif named:
        at = chunks.index(b"eXIf")
        body = b"eXIfExif\0\0" + chunks[at + 4 : at + 4 + int.from_bytes(chunks[at - 4 : at], "big")]
        chunks = chunks[: at - 4] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + chunks[at + len(body) - 2 :]
    assert Image.open(io.BytesIO(chunks)).getexif()[0x0112] == 6
    picture = read_image(chunks)
    assert picture.shape == (80, 60, 3) and is_red(picture[5, -5]) and not is_red(picture[5, 5])


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_an_avif_of_any_depth_with_alpha_has_its_colours(depth):
    """OpenCV gives 10 and 12 bits in 16: taken for 16, every such picture was flat grey."""
    stored = np.full((64, 64, 4), (40, 120, 220, 255), np.uint16) << (depth - 8)
    stored[32:, :, 3] = round(0.2 * ((1 << depth) - 1))
    _, avif = cv2.imencode(".avif", stored.astype(np.uint8) if depth == 8 else stored, [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 95])
    assert depth_of(avif.tobytes()) == depth
    picture = read_image(avif.tobytes()).astype(int)
    assert np.abs(picture[:28] - (220, 120, 40)).max() < 12 and np.abs(picture[36:] - (0.2 * np.array((220, 120, 40)) + 0.8 * 127)).max() < 12


@pytest.mark.parametrize("channels", [3, 4])
def test_the_boxes_of_an_avif_say_how_it_is_shown_and_not_its_exif_entry_too(channels):
    exif = np.frombuffer(Image.Exif().tobytes().removeprefix(b"Exif\0\0")[:4] + b"\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0", np.uint8)
    stored = np.dstack([corner_mark()[..., ::-1], np.full((60, 80), 255, np.uint8)])[..., :channels]
    _, avif = cv2.imencodeWithMetadata(".avif", stored, [cv2.IMAGE_METADATA_EXIF], [exif])
    assert b"irot" in avif.tobytes() and b"Exif" in avif.tobytes()
    picture = read_image(avif.tobytes())
    assert picture.shape == (80, 60, 3) and is_red(picture[5, -5]) and not is_red(picture[5, 5])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3), st.floats(0, 1))
def test_whatever_the_boxes_of_an_avif_hold_they_turn_the_picture_or_leave_it(damage, part):
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 5
    Image.fromarray(corner_mark()).save(content, "AVIF", exif=exif)
    damaged = bytearray(content.getvalue())
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    kept = bytes(damaged[: int(part * len(damaged))])
    assert depth_of(kept) is None or 0 < depth_of(kept) < 256
    turned = as_shown(corner_mark(), kept)
    assert sorted(turned.shape) == [3, 60, 80] and turned.sum() == corner_mark().sum()


def test_a_gif_of_one_picture_is_a_photo_and_one_that_moves_a_video():
    """One that stands still was too short for a video, and never had a verdict."""
    pictures = [Image.fromarray(corner_mark()).quantize(8), *(Image.new("P", (80, 60), number) for number in (1, 2))]
    still, moving = io.BytesIO(), io.BytesIO()
    pictures[0].save(still, "GIF")
    pictures[0].save(moving, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    info = probe(still.getvalue())
    assert (info.kind, info.width, info.height, info.frames, info.codec) == ("image", 80, 60, 1, "gif") and is_red(read_image(still.getvalue())[5, 5])
    assert probe(moving.getvalue()).kind == "video" and len(list(read_frames(moving.getvalue(), [0.0, 0.1, 0.2]))) == 3
    for read in (read_image, probe):
        with pytest.raises(MediaError, match="truncated or corrupt"):
            read(still.getvalue()[:-40])


@pytest.mark.parametrize("part", [0.1, 0.3, 0.45])
def test_a_gif_that_was_cut_in_its_first_picture_is_refused_by_all_who_read_it(part):
    """FFmpeg fills it up, OpenCV does not: it came in as a good photo, and had no verdict and no face ever after."""
    noise, content = np.random.default_rng(1).integers(0, 255, (2, 60, 80), dtype=np.uint8), io.BytesIO()
    Image.fromarray(noise[0]).save(content, "GIF", save_all=True, append_images=[Image.fromarray(noise[1])], duration=100)
    assert probe(content.getvalue()).kind == "video"
    for read in (read_image, probe):
        with pytest.raises(MediaError, match="truncated or corrupt"):
            read(content.getvalue()[: int(part * len(content.getvalue()))])


def test_the_last_picture_of_a_gif_is_shown_as_long_as_it_says():
    """Nothing follows that would tell: neither the rate nor the time of a next picture."""
    pictures, content = [Image.fromarray(picture) for picture in grey_steps(3)], io.BytesIO()
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=[100, 100, 2000])
    assert numbers(content.getvalue(), [0.0, 0.15, 0.3, 1.5, 2.1, 2.3]) == [(0.0, 0), (0.15, 1), (0.3, 2), (1.5, 2), (2.1, 2)]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".jpg", "jpeg"), (".png", "png"), (".bmp", "bmp"), (".webp", "webp"), (".tiff", "tiff"), (".jp2", "jp2"), (".avif", "avif")]
)
def test_photos_of_every_kind(tmp_path, suffix, codec):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, corner_mark()[:, :, ::-1])[1].tobytes())
    picture = read_image(path)
    assert picture.dtype == np.uint8 and is_red(picture[5, 5])
    assert (probe(path).kind, probe(path).codec) == ("image", codec)


def test_grey_deep_and_transparent_photos_become_8_bit_rgb():
    grey = cv2.imencode(".png", np.full((8, 8), 100, np.uint8))[1].tobytes()
    deep = cv2.imencode(".png", np.full((8, 8, 3), 100 * 257, np.uint16))[1].tobytes()
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, 4:] = (255, 0, 0, 255)  # BGR: blue, and nothing at all on the left
    assert read_image(grey).tolist() == [[[100] * 3] * 8] * 8
    assert read_image(deep).tolist() == [[[100] * 3] * 8] * 8
    pixels = read_image(cv2.imencode(".png", clear)[1].tobytes())
    assert pixels[0, 0].tolist() == [127] * 3 and pixels[0, 7].tolist() == [0, 0, 255]


def test_see_through_parts_of_a_tiff_are_laid_over_black_and_over_nothing_else():
    """Its library has done it: over grey once more, the picture would come in as a haze."""
    content = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 100, 50, 51)).save(content, "TIFF")
    assert np.abs(read_image(content.getvalue()).astype(int) - (40, 20, 10)).max() <= 1


BEGINNINGS = [
    b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\4ab", b"\x89PNG\r\n\x1a\n", b"BM",
    b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"\0\0\0\x20ftypavif",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd9"]))
def test_whatever_the_bytes_of_a_photo_are_it_is_a_picture_or_has_a_reason(head, body, end):
    try:
        picture = read_image(head + body + end)
    except MediaError as problem:
        assert problem.why in REASONS
    else:
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_the_name_does_not_decide_the_kind(tmp_path):
    path = tmp_path / "photo.mp4"
    path.write_bytes(cv2.imencode(".jpg", corner_mark())[1].tobytes())
    assert probe(path).kind == "image"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (np.random.default_rng(1).bytes(5000), "not a media file"),
        (b"just some words\n" * 50, "not a media file"),
        (b"RIFF" + struct.pack("<I", 8036) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + bytes(8004), "not a media file"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "not a media file"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "not a media file"),
        (b"\xff\xd8\xff\xe0", "truncated or corrupt"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "truncated or corrupt"),
        (b"\0\0\0\x20ftypisom" + bytes(500), "truncated or corrupt"),
    ],
)
def test_what_is_no_media_has_a_reason(tmp_path, content, why):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(MediaError) as problem:
            probe(source)
        assert problem.value.why == why


def heif(major: bytes, *others: bytes) -> bytes:
    """A HEIF file as far as its brands tell; the rest is noise."""
    brands = b"".join([major, bytes(4), *others])
    return (len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + np.random.default_rng(1).bytes(5000)


@pytest.mark.parametrize("brands", [(b"heic", b"mif1", b"MiHE", b"heic"), (b"mif1", b"heic"), (b"heix", b"mif1"), (b"heim",), (b"heis",), (b"msf1", b"hevc")])
def test_a_photo_of_an_iphone_is_told_by_its_format(brands):
    """It was called truncated or corrupt, which sent people looking for damage."""
    for read in (probe, read_image):
        with pytest.raises(MediaError, match="HEIC is not read: save it as JPEG or PNG"):
            read(heif(*brands))


def test_avif_is_read_whichever_brand_comes_first_and_a_burst_of_photos_is_a_video(tmp_path):
    avif = cv2.imencode(".avif", corner_mark()[:, :, ::-1])[1].tobytes()
    for major in (b"avif", b"mif1"):
        turned = avif[:8] + major + avif[12:]
        assert is_red(read_image(turned)[5, 5]) and probe(turned).kind == "image"
        with pytest.raises(MediaError, match="truncated or corrupt"):
            read_image(turned[: len(turned) // 2])
    film = write_video(tmp_path / "a.mp4", grey_steps(3)).read_bytes()
    assert probe(film[:8] + b"hevc" + film[12:]).kind == "video"


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_of_too_many_bits_is_told_by_them(kind, channels):
    tiff = cv2.imencode(".tiff", np.full((40, 60, channels), 1, kind))[1].tobytes()
    with pytest.raises(MediaError, match="TIFF of 32 bits is not read: save it with 8 or 16"):
        read_image(tiff)
    with pytest.raises(MediaError, match="truncated or corrupt"):
        read_image(tiff[: len(tiff) // 2])


@pytest.mark.parametrize("packing", ["zstd", "lzma", "tiff_lzw", "tiff_deflate"])
def test_a_sound_tiff_is_not_called_damaged_for_how_it_is_packed(packing):
    noise, content = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(noise).save(content, "TIFF", compression=packing)
    if packing.startswith("tiff"):
        assert np.array_equal(read_image(content.getvalue()), noise)
        return
    for read in (probe, read_image):
        with pytest.raises(MediaError, match="TIFF in LZMA, Zstandard or WebP is not read: save it with LZW or Deflate") as problem:
            read(content.getvalue())
        assert problem.value.why in REASONS
    with pytest.raises(MediaError, match="truncated or corrupt"):
        read_image(content.getvalue()[:2000])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_big_tiff_is_a_photo(order, orientation):
    """It was called no media file, though the library that reads TIFF reads it."""
    pixels = corner_mark().tobytes()
    tags = [(256, 80), (257, 60), (258, 8), (259, 1), (262, 2), (273, 16), (274, orientation), (277, 3), (278, 60), (279, len(pixels))]
    rows = b"".join(struct.pack(f"{order}HHQQ", tag, 16, 1, value) for tag, value in tags)  # each of 64 bits
    head = struct.pack(f"{order}2sHHHQ", b"II" if order == "<" else b"MM", 43, 8, 0, 16 + len(pixels))
    content = head + pixels + struct.pack(f"{order}Q", len(tags)) + rows + bytes(8)
    picture = read_image(content)
    assert picture.shape == ((80, 60, 3) if orientation == 6 else (60, 80, 3)) and is_red(picture[5, -5 if orientation == 6 else 5])
    assert (probe(content).kind, probe(content).codec) == ("image", "tiff")
    for read in (probe, read_image):
        with pytest.raises(MediaError, match="truncated or corrupt"):
            read(content[:5000])


def test_a_missing_file_has_a_reason(tmp_path):
    with pytest.raises(MediaError, match="file not found"):
        probe(tmp_path / "nothing.mp4")


def test_a_pipe_is_not_opened(tmp_path):
    """It was, and whoever asked waited for a writer that never came."""
    os.mkfifo(tmp_path / "pipe.mp4")
    for read in (probe, read_image, measured_seconds):
        with pytest.raises(MediaError, match="not a regular file"):
            read(tmp_path / "pipe.mp4")


def test_what_cannot_be_opened_has_its_own_reason(tmp_path):
    """All of it was called not found, which sent people looking for what lies before their eyes."""
    (tmp_path / "file").touch()
    reasons = {tmp_path: "a folder", tmp_path / "file" / "a.mp4": "file not found", tmp_path / ("a" * 300): "the file cannot be read"}
    for path, why in reasons.items():
        for read in (probe, read_image):
            with pytest.raises(MediaError) as problem:
                read(path)
            assert problem.value.why == why in REASONS


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([0, 1]), st.floats(0, 1, exclude_max=True))
def test_what_a_phone_appends_to_a_photo_is_not_looked_at(tail, progressive, part):
    noise = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    photo = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
    assert read_image(photo + tail + b"\xff\xda" + tail).shape == (40, 60, 3)
    with pytest.raises(MediaError, match=r"truncated or corrupt"):
        read_image(photo[: 4 + int(part * (len(photo) - 6))])


def test_half_a_photo_is_not_filled_up(tmp_path):
    picture = np.random.default_rng(2).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    with pytest.raises(MediaError, match="truncated"):
        read_image(jpeg[: len(jpeg) // 2])


def test_a_bomb_of_a_photo_is_refused_by_its_header():
    png = bytearray(cv2.imencode(".png", corner_mark())[1].tobytes())
    png[16:24] = (30000).to_bytes(4, "big") * 2
    jpeg = bytearray(cv2.imencode(".jpg", corner_mark())[1].tobytes())
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = (30000).to_bytes(2, "big") * 2
    for content in (png, jpeg):
        with pytest.raises(MediaError, match="picture too large"):
            read_image(bytes(content))


@pytest.mark.parametrize(("height", "why"), [(8192, "truncated or corrupt"), (8193, "picture too large")])
def test_a_photo_of_8192_by_8192_pixels_is_not_refused_for_its_size_and_a_larger_one_is(height, why):
    png = bytearray(cv2.imencode(".png", corner_mark())[1].tobytes())
    png[16:24] = (8192).to_bytes(4, "big") + height.to_bytes(4, "big")
    with pytest.raises(MediaError) as problem:
        read_image(bytes(png))
    assert problem.value.why == why


def covered(path, *pictures):
    """Sound with a cover, which stands first among the pictures, and a film of `pictures` behind it where there are any."""
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("aac", rate=16000), container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        film = container.add_stream("libx264", rate=25) if pictures else None
        if film:
            film.height, film.width, film.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        shown = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 250, np.uint8), format="rgb24").reformat(format="yuvj420p")
        shown.pts = 0
        container.mux([*cover.encode(shown), *cover.encode()])
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        wave.sample_rate, wave.pts = 16000, 0
        container.mux([*sound.encode(wave), *sound.encode()])
        for picture in pictures:
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if film:
            container.mux(film.encode())
    return path


def test_a_cover_is_no_video_and_none_is_taken_for_the_film_behind_it(tmp_path):
    with pytest.raises(MediaError, match="no video stream"):
        probe(covered(tmp_path / "song.mp4"))
    film = covered(tmp_path / "film.mp4", *grey_steps(8, 96, 128))
    assert (probe(film).width, probe(film).frames) == (128, 8) and numbers(film, [0.0, 0.2]) == [(0.0, 0), (0.2, 5)]


def test_sound_alone_is_no_video(tmp_path):
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video stream"):
        probe(path)


def test_the_whole_part_of_a_cut_file_is_read(tmp_path):
    """A recording that stopped in mid-air (Matroska needs no closing header) still gives the frames that are there."""
    content = write_video(tmp_path / "a.mkv", [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) for k in range(40)]).read_bytes()
    got = list(read_frames(content[: len(content) // 2], [k / 25 for k in range(40)]))
    assert 5 < len(got) < 35


@pytest.mark.parametrize("count", [20, 2000])
def test_what_follows_packets_that_nobody_can_read_is_read(tmp_path, count):
    """A hundred of them in a row, which no player minds, ended the file; they were a millisecond of it and some bytes."""

    def with_junk(number, packet):
        for _ in range(count if number == 10 else 0):
            junk = av.Packet(b"\x07" * 4)
            junk.pts, junk.dts, junk.time_base = packet.pts - 1, packet.dts - 1, packet.time_base
            yield junk
        yield packet

    source = rewritten(write_video(tmp_path / "plain.mkv", grey_steps(30), gop=10), tmp_path / "a.mkv", with_junk)
    assert numbers(source, [k / 25 for k in range(30)]) == [(k / 25, k) for k in range(30)]
    assert numbers(source, [1.0, 1.16]) == [(1.0, 25), (1.16, 29)]


def test_shared_edge_files_have_the_right_reasons(shared_data):
    reasons = {"empty.mp4": "empty file", "not_a_video.mp4": "not a media file", "truncated.mp4": "truncated or corrupt"}
    for name, why in reasons.items():
        with pytest.raises(MediaError) as problem:
            probe(shared_data / "edge" / name)
        assert problem.value.why == why
