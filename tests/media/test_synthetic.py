"""Sample media: the same for the same seed, found by the real detector, and honest (no file says by its form what it is)."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from media.detect import FaceFinder
from media.synthetic import draw_person, make_sample_media, render_take
from media.synthetic.generators import BlendSwap, Upsampler
from media.synthetic.motion import draw_motion
from media.synthetic.renderer import PersonRenderer, draw_take
from media.synthetic.sample import take_name
from workspace.errors import DataError
from workspace.settings import FaceSettings

FAKES = {"blendswap": 1, "upsampler": 1}


def renderer(number: int, seed: int = 3, frames: int = 2) -> PersonRenderer:
    rng = np.random.default_rng(seed)
    person = draw_person(0, number)
    return PersonRenderer(person, draw_take(rng, person, draw_motion(rng, frames, 12.0), 256, 256), 0)


def test_the_real_detector_finds_the_rendered_face_in_95_of_100_frames_of_60_people() -> None:
    finder = FaceFinder(FaceSettings(max_detect_px=256))
    found = [bool(finder.find(frame)) for number in range(1, 61) for frame in render_take(0, number, 0, 3)[0]]
    assert np.mean(found) >= 0.95, f"{sum(found)} of {len(found)}"


@pytest.mark.parametrize("generator", ["blendswap", "upsampler"])
def test_the_real_detector_finds_forged_faces_too(generator: str) -> None:
    finder = FaceFinder(FaceSettings(max_detect_px=256))
    frames = [frame for number in range(1, 21) for frame in render_take(0, number, 0, 2, generator=generator, donor=number + 1)[0]]
    found = [bool(finder.find(frame)) for frame in frames]
    assert np.mean(found) >= 0.95, f"{sum(found)} of {len(found)}"


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for folder, workers in (("a", 1), ("b", 3)):
        make_sample_media(tmp_path / folder, people=2, seconds=0.4, seed=5, fakes=FAKES, workers=workers)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 7
    assert [(tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files] == [True] * 7


def test_labels_name_every_file_its_person_and_its_donor(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = make_sample_media(tmp_path, people=3, clips_per_person=2, seconds=0.3, fakes=FAKES, progress=lambda done, total: seen.append((done, total)))
    with open(tmp_path / "labels.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["path"] for row in rows} == {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")}
    assert (report.real, report.fake, len(rows)) == (6, 6, 12)
    assert seen[-1] == (12, 12)
    for row in rows:
        stem = Path(row["path"]).stem.split("_")
        assert stem[0] == row["identity"] and row["donor"] == (stem[1] if len(stem) == 3 else "") and row["donor"] != row["identity"]
        assert (row["label"] == "fake") == row["path"].startswith("fake/") == bool(row["generator"])
    assert "fake/blendswap" in {str(Path(row["path"]).parent) for row in rows if row["donor"]}
    assert len({row["source_video"] for row in rows}) == 12


def test_a_person_returns_in_another_take_and_is_the_same_person() -> None:
    assert draw_person(7, 4) == draw_person(7, 4)
    assert draw_person(7, 4) != draw_person(8, 4)
    first, second = (render_take(7, 4, take, 2)[0][0] for take in (0, 1))
    assert first.shape != second.shape or np.abs(first.astype(int) - second).mean() > 5


def test_people_differ() -> None:
    looks = [render_face(number) for number in range(1, 13)]
    distances = [np.abs(a - b).mean() for i, a in enumerate(looks) for b in looks[:i]]
    assert np.median(distances) > 15 and min(distances) > 4


def render_face(number: int) -> np.ndarray:
    return cv2.resize(renderer(number).frame(0), (64, 64), interpolation=cv2.INTER_AREA)


def test_form_of_the_file_is_the_same_for_real_and_fake(tmp_path: Path) -> None:
    import av

    make_sample_media(tmp_path, people=3, seconds=0.5, fakes=FAKES)
    forms = set()
    for path in tmp_path.rglob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context
            texts = (tuple(container.metadata.items()), tuple(stream.metadata.items()))
            forms.add((codec.name, codec.profile, stream.pix_fmt, stream.average_rate, stream.frames, texts))
    assert len(forms) == 1


def test_the_camera_does_not_know_what_it_records() -> None:
    cameras = {kind: [render_camera(number, kind) for number in range(1, 81)] for kind in ("", "blendswap", "upsampler")}
    real = np.array(cameras[""])
    for kind in ("blendswap", "upsampler"):
        apart = np.abs(np.array(cameras[kind]).mean(axis=0) - real.mean(axis=0)) / (real.std(axis=0) + 1e-9)
        assert apart.max() < 0.5, f"{kind}: {apart}"  # 3 standard errors of a difference of 80 and 80


def render_camera(number: int, kind: str) -> list[float]:
    from media.synthetic.camera import draw_camera
    from media.synthetic.sample import take_generator

    camera = draw_camera(take_generator(0, number, 0, kind), 256)
    return [camera.width, camera.height, camera.crf, camera.noise, camera.blur, camera.contrast, *camera.gain]


def test_blendswap_changes_the_inner_face_and_nothing_else() -> None:
    target, rng = renderer(1), np.random.default_rng(0)
    donor = PersonRenderer(draw_person(0, 2), target.take, 0)
    change = np.abs(next(BlendSwap(target, donor, rng).frames()) - target.frame(0)).mean(axis=2)
    inner = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(inner, [np.round(target.inner_face(0)).astype(np.int32)], 1)
    assert change[inner > 0].mean() > 4
    grown = cv2.dilate(inner, np.ones((41, 41), np.uint8))
    assert change[grown == 0].max() < 0.5


def test_upsampler_leaves_a_periodic_grid_and_no_other_colour() -> None:
    target = renderer(1)
    forger = Upsampler(target, np.random.default_rng(0))
    change = next(forger.frames()) - target.frame(0)
    assert np.abs(cv2.GaussianBlur(change, (0, 0), 12)).max() < 1.0, "local means must stay"
    corners = np.concatenate([change[:20, :20].ravel(), change[:20, -20:].ravel()])
    assert np.abs(corners).max() < 0.2, "the background must stay"
    x, y = (int(v) for v in target.place(0)[:, 2])
    patch = change[y - 10 : y + 54, x - 32 : x + 32].mean(axis=2)
    power = np.abs(np.fft.rfft2(patch * np.outer(np.hanning(64), np.hanning(64)))) ** 2
    row, column = np.unravel_index(power.argmax(), power.shape)
    frequency = np.hypot(min(row, 64 - row), column) / 64
    assert 7 < 1 / frequency < 14, "one cell is some ten pixels wide"


@pytest.mark.parametrize(
    "wrong",
    [{"fakes": {"stylegan9": 1}}, {"people": 0}, {"people": 1}, {"seconds": 0.0}, {"size_px": 16}, {"fakes": {"upsampler": -1}}, {"first_take": -1}],
)
def test_impossible_wishes_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(DataError):
        make_sample_media(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_take_names_run_on_after_z() -> None:
    assert [take_name(take) for take in (0, 1, 25, 26, 27, 701, 702)] == ["a", "b", "z", "aa", "ab", "zz", "aaa"]


def test_a_second_run_into_a_folder_keeps_the_labels_of_the_first(tmp_path: Path) -> None:
    def labels(first_person: int) -> list[str]:
        report = make_sample_media(tmp_path, people=1, seconds=0.2, fakes={}, first_person=first_person)
        assert [row["identity"] for row in report.rows] == [f"p{first_person:04d}"]
        return (tmp_path / "labels.csv").read_text().splitlines()

    first, both = labels(1), labels(2)
    assert both == [*first, *(line.replace("p0001", "p0002") for line in first[1:])] == labels(2)
    (tmp_path / "real" / "p0001_a.mp4").unlink()
    assert labels(2) == [first[0], both[2]], "no label is left of a clip that is gone"


@pytest.mark.parametrize("content", [b"", b"path,label\nmine.mp4,real\n", b"\xff\xfe\0"])
def test_labels_that_somebody_else_wrote_are_left_alone(tmp_path: Path, content: bytes) -> None:
    """They were written over without a word."""
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match="Name an empty folder"):
        make_sample_media(tmp_path, people=1, seconds=0.2, fakes={})
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"] and (tmp_path / "labels.csv").read_bytes() == content


def test_no_sample_media_are_put_into_a_program(tmp_path: Path) -> None:
    """`vigil sample media` in the project's own checkout filled the room `media/`."""
    (tmp_path / "__init__.py").touch()
    with pytest.raises(DataError, match="holds a program"):
        make_sample_media(tmp_path, people=2)
    assert [path.name for path in tmp_path.iterdir()] == ["__init__.py"]
