"""Every odd kind of file that people have, through `vigil ingest` and the faces stage: each row says what must come out."""

import json
import os
import shutil
import sys
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from media.decode import read_frames
from media.photos import DEEP_TIFF, HEIC
from pipelines import faces
from pipelines.ingest import ingest
from tests.pipelines import odd_inputs as odd
from tests.pipelines.odd_inputs import Maker, content, cut, encoded, jpeg, pillow, png, video
from tests.pipelines.small_world import demo_settings
from tests.system.world import vigil
from workspace.files import read_json
from workspace.manifest import read_manifest, read_media
from workspace.settings import SourceSettings

WIDTH, HEIGHT = 256, 320  # of the upright picture


@dataclass(frozen=True)
class Taken:
    """A file that comes in: what it is, its upright size, whether the faces stage cuts a clip, or why it does not."""

    kind: str
    width: int = WIDTH
    height: int = HEIGHT
    reason: str = ""


@dataclass(frozen=True)
class Aside:
    """A file that is put aside, and the reason that people are told."""

    reason: str


PHOTO, VIDEO = Taken("image"), Taken("video")
COPY, HIDDEN = "has the content of another", "passed over"
NOT_MEDIA, BROKEN, NO_PICTURE, TOO_LARGE = (Aside(reason) for reason in ("not a media file", "truncated or corrupt", "no video stream", "picture too large"))
Row = tuple[str | bytes, Maker, Taken | Aside | str]
ROWS: dict[str, Row] = {
    # names
    "composed accents": (unicodedata.normalize("NFC", "café.jpg"), content(jpeg), PHOTO),
    "decomposed accents": (unicodedata.normalize("NFD", "café.jpg"), content(jpeg), PHOTO),
    "emoji that are joined": ("\U0001f468\u200d\U0001f469\u200d\U0001f467.jpg", content(jpeg), PHOTO),
    "right to left, turned round": ("\u202e\u0639\u0631\u0628\u064a.jpg", content(jpeg), PHOTO),
    "beyond the first plane": ("\U00020000\U0001f600 \u4e2d\u6587.jpg", content(jpeg), PHOTO),
    "combining marks alone": ("\u0301\u0302\u200b.jpg", content(jpeg), PHOTO),
    "a newline": ("two\nlines.jpg", content(jpeg), PHOTO),
    "tabs, quotes, escapes": ("\t'\"\x1b[31m;$(x)%s{}.jpg", content(jpeg), PHOTO),
    "a backslash": ("back\\slash.jpg", content(jpeg), PHOTO),
    "bytes that are no text": (b"\xff\xfe\xe9.jpg", content(jpeg), PHOTO),
    "as long as a name may be": ("n" * 251 + ".jpg", content(jpeg), PHOTO),
    "an option's look": ("--layout -rf .jpg", content(jpeg), PHOTO),
    "blanks around": (" spaced .jpg ", content(jpeg), PHOTO),
    "no suffix": ("suffixless", content(jpeg), PHOTO),
    "upper case": ("CASE.JPG", content(jpeg), PHOTO),
    "the same in lower case": ("case.jpg", content(jpeg), PHOTO),
    "hidden": (".hidden.jpg", content(jpeg), HIDDEN),
    "thirty folders down": ("/".join(["deep"] * 30) + "/down.jpg", content(jpeg), PHOTO),
    # links and what is no file
    "a link inside": ("link-in.jpg", odd.link("CASE.JPG"), COPY),
    "a hard link": ("link-hard.jpg", odd.hard_link("CASE.JPG"), COPY),
    "a link outside": ("link-out.jpg", odd.link("/etc/hostname"), Aside("link leads outside the source")),
    "a link to a device": ("link-zero.mp4", odd.link("/dev/zero"), Aside("link leads outside the source")),
    "a broken link": ("link-broken.jpg", odd.link("nowhere.jpg"), Aside("broken link")),
    "a link to itself": ("link-loop.jpg", odd.link("link-loop.jpg"), Aside("link in a loop")),
    "a link to the folder above": ("link-up", odd.link(".."), Aside("link to a folder")),
    "a pipe": ("pipe.mp4", odd.fifo, Aside("not a regular file")),
    "a socket": ("socket.mp4", odd.listening, Aside("not a regular file")),
    "permission denied": ("locked.jpg", odd.locked, Aside("unreadable (PermissionError)")),
    "a folder that is closed": ("locked-folder", odd.locked_folder, Aside("unreadable folder")),
    # no media
    "zero bytes": ("zero.mp4", content(b""), Aside("empty file")),
    "one byte": ("one.jpg", content(b"\xff"), NOT_MEDIA),
    "text named mp4": ("text.mp4", content(b"not a film\n" * 40), NOT_MEDIA),
    "a page named jpg": ("page.jpg", content(b"<!DOCTYPE html><html><body>404</body></html>"), NOT_MEDIA),
    "noise": ("noise.mp4", content(np.random.default_rng(1).bytes(5000)), NOT_MEDIA),
    "a playlist that names files": ("list.m3u8", content(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"), NOT_MEDIA),
    "a script that joins files": ("join.mp4", content(b"ffconcat version 1.0\nfile '/etc/hostname'\n"), NOT_MEDIA),
    "a drawing": ("drawing.svg", content(b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'), NOT_MEDIA),
    "an archive in an archive": ("nested.zip", odd.zipped, NOT_MEDIA),
    "a packed tar": ("packed.tar.gz", odd.tarred, NOT_MEDIA),
    # pictures
    "grey JPEG": ("grey.jpg", pillow("L", "JPEG"), PHOTO),
    "CMYK JPEG": ("cmyk.jpg", pillow("CMYK", "JPEG"), PHOTO),
    "progressive JPEG": ("progressive.jpg", encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1), PHOTO),
    "JPEG turned by EXIF": ("turned.jpg", odd.phone_photo, PHOTO),
    "JPEG named mp4": ("photo.mp4", content(jpeg), PHOTO),
    "JPEG cut": ("cut.jpg", cut(content(jpeg), 0.6), BROKEN),
    "JPEG cut in its header": ("cut-head.jpg", cut(content(jpeg), 0.004), BROKEN),
    "transparent PNG": ("alpha.png", encoded(".png", change=lambda bgr: np.dstack([bgr, np.full(bgr.shape[:2], 200, np.uint8)])), PHOTO),
    "PNG with a palette": ("palette.png", pillow("P", "PNG"), PHOTO),
    "16-bit PNG": ("deep.png", encoded(".png", change=lambda bgr: bgr.astype(np.uint16) * 257), PHOTO),
    "16-bit grey PNG": ("deep-grey.png", encoded(".png", change=lambda bgr: bgr[:, :, 1].astype(np.uint16) * 257), PHOTO),
    "black and white PNG": ("bits.png", pillow("1", "PNG"), PHOTO),
    "PNG cut": ("cut.png", cut(content(png), 0.5), BROKEN),
    "PNG that claims ten thousand million pixels": ("bomb.png", content(odd.bomb(100_000, 100_000)), TOO_LARGE),
    "PNG of one pixel": ("pixel.png", encoded(".png", change=lambda bgr: bgr[:1, :1]), Taken("image", 1, 1, "no face found")),
    "a strip": ("strip.png", encoded(".png", change=lambda bgr: cv2.resize(bgr, (3000, 2))), Taken("image", 3000, 2, "no face found")),
    "8K still": ("large.jpg", encoded(".jpg", change=lambda bgr: cv2.resize(bgr, (3456, 4320))), Taken("image", 3456, 4320)),
    "lossless WebP": ("lossless.webp", encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101), PHOTO),
    "animated WebP": ("moving.webp", odd.animated("WEBP"), PHOTO),
    "animated PNG": ("moving.png", odd.animated("PNG"), PHOTO),
    "animated GIF": ("moving.gif", odd.animated("GIF"), VIDEO),
    "animated GIF, cut in its first picture": ("cut.gif", cut(odd.animated("GIF"), 0.1), BROKEN),
    "TIFF": ("picture.tiff", encoded(".tiff"), PHOTO),
    "BMP": ("picture.bmp", encoded(".bmp"), PHOTO),
    "JPEG 2000": ("picture.jp2", encoded(".jp2"), PHOTO),
    "AVIF": ("picture.avif", encoded(".avif"), PHOTO),
    "HEIC": ("picture.heic", content(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)), Aside(HEIC)),
    "TIFF of floats": ("deep.tiff", encoded(".tiff", change=lambda bgr: bgr.astype(np.float32) / 255), Aside(DEEP_TIFF)),
    # videos
    "MP4 named jpg": ("video.jpg", video(form="mp4"), VIDEO),
    "a program stream named jpg": ("program.jpg", video("mpeg2video", form="mpeg"), VIDEO),
    "phone video turned by its header": ("phone.mp4", odd.phone_video, VIDEO),
    "variable frame rate": ("uneven.mp4", odd.uneven, VIDEO),
    "10-bit HEVC": ("deep.mp4", video("libx265", "yuv420p10le"), VIDEO),
    "VP9 in WebM": ("open.webm", video("libvpx-vp9"), VIDEO),
    "MPEG-4 in AVI": ("old.avi", video("mpeg4"), VIDEO),
    "a transport stream": ("stream.ts", video(), VIDEO),
    "joined streams, with sound and without": ("joined.ts", odd.joined, VIDEO),
    "a live Matroska without a length": ("live.mkv", video(muxer={"live": "1"}), VIDEO),
    "interlaced": ("fields.mp4", video(options={"x264-params": "interlaced=1"}), VIDEO),
    "no chroma": ("grey.mkv", video("ffv1", "gray"), VIDEO),
    "full chroma": ("full.mp4", video(pixels="yuv444p"), VIDEO),
    "transparent": ("alpha.mkv", video("ffv1", "bgra"), VIDEO),
    "sound first, and a late start": ("late.mkv", odd.many_tracks, VIDEO),
    "odd sides": (
        "odd.mp4", lambda path, face: path.write_bytes(odd.video_bytes(odd.varied(face, "odd")[:319, :255].copy(), pixels="yuv444p")) and None,
        Taken("video", 255, 319),
    ),
    "one frame": ("single.mp4", video(frames=1), VIDEO),
    "three hours": ("long.mp4", odd.long_video, Taken("video", 160, 120)),
    "no length": ("still.mkv", video(frames=1, fps=Fraction(1000), muxer={"live": "1"}), Taken("video", reason="too few frames with a face")),
    "cut, index first": ("cut-front.mp4", cut(video(muxer={"movflags": "faststart"}), 0.7), VIDEO),
    "cut, index last": ("cut-back.mp4", cut(video(), 0.7), BROKEN),
    "cut after twenty bytes": ("cut-head.mp4", cut(video(), 0.0005), BROKEN),
    "cut Matroska": ("cut.mkv", cut(video(), 0.7), VIDEO),
    "sound only": ("sound.m4a", odd.sound_only(cover=False), NO_PICTURE),
    "sound with a cover": ("cover.m4a", odd.sound_only(cover=True), NO_PICTURE),
    "a video that claims a hundred million pixels": ("wide.avi", odd.resized_header(12_000, 9_000), TOO_LARGE),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """What came out: manifest rows and entries of the faces report by name, the counts of the ingest, and where the batch lies."""

    source: Path
    rows: dict[str, dict[str, Any]]
    entries: dict[str, dict[str, Any]]
    counts: dict[str, Any]
    copies: int
    batch: Path


@pytest.fixture(scope="module")
def face(sample_media: Path) -> np.ndarray:
    """An upright picture with a face, RGB [HEIGHT, WIDTH, 3]."""
    ((_, frame),) = read_frames(sorted((sample_media / "real").glob("*.mp4"))[0], [0.2])
    side = cv2.resize(frame, (WIDTH, WIDTH), interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(side, HEIGHT - WIDTH, 0, 0, 0, cv2.BORDER_REPLICATE)


def stored_name(name: str | bytes) -> str:
    """How the manifest calls it."""
    return f"real/{os.fsdecode(name)}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, face: np.ndarray) -> World:
    folder = tmp_path_factory.mktemp("odd")
    for name, make, _ in ROWS.values():
        path = folder / "real" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, face)
    root = tmp_path_factory.mktemp("odd-workspace") / "w"
    vigil("init", root, "--profile", "demo")
    done = odd.run([sys.executable, "-m", "vigil", "ingest", str(folder), "--name", "odd", "-w", str(root), "--json"])
    (folder / "real" / "locked-folder").chmod(0o700)
    assert done.returncode == 0, done.stderr[-3000:]
    (report,) = json.loads(done.stdout)
    (batch,) = report["batches"]
    about = faces.run(root, demo_settings({"faces": {"workers": 1}}), batch)
    table = read_manifest(root / "data" / "raw" / batch)
    return World(
        folder,
        {row["path"]: row for row in table.to_dict("records")},
        {sample["path"]: sample for sample in about["samples"]},
        report["sources"]["odd"],
        report["copies"],
        root / "data" / "raw" / batch,
    )


@pytest.mark.parametrize("kind", ROWS)
def test_each_is_right_or_has_a_reason(kind: str, world: World) -> None:
    name, _, expected = ROWS[kind]
    row, entry = world.rows.get(stored_name(name)), world.entries.get(stored_name(name))
    if isinstance(expected, str):
        assert row is None and entry is None, "it is counted, and has no row"
        return
    assert row is not None and entry is not None
    if isinstance(expected, Aside):
        assert (row["quarantine"], row["shard"]) == (expected.reason, "")
        assert entry["reason"] == expected.reason and not entry["clips"]
        return
    assert row["quarantine"] == "" and row["label"] == "real"
    assert (row["kind"], entry["width"], entry["height"]) == (expected.kind, expected.width, expected.height)
    assert entry["decoded"] and entry["frames_seen"] >= 1
    assert read_media(world.batch, row["shard"], row["offset"], row["bytes"], row["sample_id"]) == (world.source / "real" / os.fsdecode(name)).read_bytes()
    assert entry["reason"] == expected.reason and bool(entry["clips"]) == (expected.reason == "")


def test_every_file_is_accounted_for(world: World) -> None:
    kinds = [expected for _, _, expected in ROWS.values()]
    assert len(ROWS) >= 50 and world.copies == kinds.count(COPY) and world.counts["hidden"] == kinds.count(HIDDEN)
    assert world.counts["found"] == len(ROWS) - kinds.count(HIDDEN) == len(world.rows) + world.copies
    assert world.counts["quarantined"] == sum(isinstance(kind, Aside) for kind in kinds)
    assert sorted(world.rows) == sorted(stored_name(name) for name, _, kind in ROWS.values() if not isinstance(kind, str))


def test_a_file_that_changes_while_it_is_taken_in_comes_in_later_and_whole(tmp_path: Path, face: np.ndarray) -> None:
    source = tmp_path / "media"
    (source / "real").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        content(jpeg)(source / "real" / name, face)

    def grows(number: int, of: int, name: str) -> None:
        if number == of:  # all are measured, none is packed
            with open(source / "real" / "b.jpg", "ab") as handle:
                handle.write(b"more")

    settings, here = demo_settings(), [SourceSettings(name="here", path=str(source))]
    report = ingest(tmp_path / "w", settings, here, batch="w1", progress=grows)
    assert report.batches == [] and "changed while it was taken in" in report.problems["here"]
    again = ingest(tmp_path / "w", settings, here, batch="w1")
    assert (again.added, again.problems) == (2, {})
    shutil.rmtree(tmp_path / "w" / ".vigil")
    assert read_json(tmp_path / "w" / "data" / "raw" / "w1" / "summary.json")["samples"] == 2
