"""The detector finds faces where they are, at any size and turn, and nothing where there is none."""

import csv
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError

import cv2
import numpy as np
import pytest

from media import networks
from media.align import crop_transform, place, warp
from media.decode import probe, read_frames, read_image
from media.detect import FaceFinder, shrunk
from media.landmarks import FACE_OVAL, INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from media.synthetic import render_take
from tests.faces import region_masks
from workspace.errors import ModelFileError
from workspace.settings import FaceSettings

FINDER = FaceFinder(FaceSettings())


@pytest.fixture(scope="module")
def portrait():
    return np.ascontiguousarray(render_take(3, 1, 0, 1, size_px=256)[0][0])


def test_one_rendered_face_is_found_once(portrait):
    (face,) = FINDER.find(portrait)
    x0, y0, x1, y1 = face.box
    assert 0 <= x0 < x1 <= portrait.shape[1] and 0 <= y0 < y1 <= portrait.shape[0]
    assert face.landmarks.shape == (468, 2) and face.score > 0.5 and face.presence > 0.5
    left, right, mouth = (face.landmarks[points].mean(axis=0) for points in (LEFT_EYE, RIGHT_EYE, OUTER_LIPS))
    assert left[0] < mouth[0] < right[0] and mouth[1] > max(left[1], right[1])


def test_finding_twice_is_the_same(portrait):
    one, two = FINDER.find(portrait)[0], FINDER.find(portrait)[0]
    assert one.box == two.box and np.array_equal(one.landmarks, two.landmarks)


def test_threads_share_the_networks(portrait):
    alone = FINDER.find(portrait)[0].landmarks
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(found[0].landmarks, alone) for found in pool.map(lambda _: FaceFinder(FaceSettings()).find(portrait), range(12)))


@pytest.mark.parametrize("turn", [-25, 20])
def test_the_mesh_turns_with_the_face(portrait, turn):
    side = portrait.shape[0]
    matrix = cv2.getRotationMatrix2D((portrait.shape[1] / 2, side / 2), turn, 0.9)
    (upright,) = FINDER.find(portrait)
    (turned,) = FINDER.find(cv2.warpAffine(portrait, matrix, portrait.shape[1::-1], borderMode=cv2.BORDER_REPLICATE))
    expected = upright.landmarks @ matrix[:, :2].T + matrix[:, 2]
    size = np.ptp(expected[:, 1])
    assert np.abs(turned.landmarks - expected).mean() < 0.04 * size


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_mesh_is_in_pixels_of_the_given_picture(portrait, scale):
    """Detection runs on a shrunk picture; what comes back belongs to the full one."""
    (one,) = FINDER.find(portrait)
    (other,) = FINDER.find(cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    assert np.abs(other.landmarks / scale - one.landmarks).mean() < 0.025 * np.ptp(one.landmarks[:, 1])


def test_a_mirrored_face_looks_the_other_way(portrait):
    (one,) = FINDER.find(portrait)
    (other,) = FINDER.find(np.ascontiguousarray(portrait[:, ::-1]))
    assert other.yaw_degrees == pytest.approx(-one.yaw_degrees, abs=8)


def test_two_faces_are_two(portrait):
    small = cv2.resize(portrait, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    canvas = np.full((portrait.shape[0], portrait.shape[1] + small.shape[1], 3), 90, np.uint8)
    canvas[:, : portrait.shape[1]] = portrait
    canvas[: small.shape[0], portrait.shape[1] :] = small
    first, second = FINDER.find(canvas)
    assert first.landmarks[:, 0].mean() < portrait.shape[1] < second.landmarks[:, 0].mean()


@pytest.mark.parametrize("picture", [np.zeros((120, 160, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)])
def test_nothing_is_found_in_nothing(picture):
    assert FINDER.find(picture) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (900, 2, 3), (3, 3, 3)])
def test_odd_shapes_do_no_harm(shape):
    assert FINDER.find(np.full(shape, 128, np.uint8)) == []


def test_shrinking_keeps_the_shape_and_the_light():
    frame = np.random.default_rng(1).integers(0, 256, (1079, 1921, 3), dtype=np.uint8)
    small = shrunk(frame, 512)
    assert max(small.shape) == 512 and abs(small.shape[0] - 1079 * 512 / 1921) <= 1.5
    assert abs(small.mean() - frame.mean()) < 1 and shrunk(small, 512) is small


def test_missing_network_files_are_one_clear_error(monkeypatch):
    def gone(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", gone)
    with pytest.raises(ModelFileError, match="face_landmark"):
        networks.network_content(networks.MESH_FILE)


def test_the_index_maps_are_of_the_mesh():
    assert len(set(FACE_OVAL)) == 36 and len(set(INNER_LIPS)) == len(set(OUTER_LIPS)) == 20


def test_region_masks_cover_their_regions(portrait):
    found = FINDER.find(portrait)[0].landmarks
    matrix = crop_transform(place(found), 1.3, 128)
    mesh = (found @ matrix[:, :2].T + matrix[:, 2]) / 128
    eyes, lips, skin = masks = region_masks(mesh, 128)
    assert masks.shape == (3, 128, 128) and masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1

    def at(mask, points):
        x, y = (mesh[points].mean(axis=0) * 128).astype(int)
        return mask[y, x]

    assert at(eyes, LEFT_EYE) > 0.9 and at(eyes, RIGHT_EYE) > 0.9 and at(lips, OUTER_LIPS) > 0.9 and at(skin, [1, 4, 5]) > 0.9
    assert at(skin, LEFT_EYE) < 0.1 and at(eyes, OUTER_LIPS) < 0.1
    assert region_masks(mesh + 5, 128).sum() == 0


def tight(picture: np.ndarray, landmarks: np.ndarray, sides: float) -> np.ndarray:
    """The square of 224 px around a mesh, `sides` times as long as its longer side."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    scale, (x, y) = 224 / (sides * (high - low).max()), (low + high) / 2
    return warp(picture, np.array([[scale, 0, 112 - scale * x], [0, scale, 112 - scale * y]]), 224)


def test_a_crop_that_is_all_face_is_fitted_as_a_whole(shared_data):
    found = {"detector": 0, "either": 0, "of": 0}
    for path in sorted((shared_data / "real" / "photos").iterdir())[:40]:
        picture = read_image(path)
        for face in FINDER.find(picture)[:1]:
            crop = tight(picture, face.landmarks, 0.9)
            found = {"detector": found["detector"] + bool(FINDER.find(crop)), "either": found["either"] + bool(FINDER.fit_whole(crop)), "of": found["of"] + 1}
    assert found["of"] >= 35 and found["detector"] < 0.5 * found["of"] and found["either"] >= 0.95 * found["of"], found


def test_a_picture_without_a_face_is_no_crop_of_one(shared_data, portrait):
    (face,) = FINDER.find(portrait)
    assert not FINDER.fit_whole(np.hstack([portrait, portrait])), "two faces wide"
    assert len(FINDER.fit_whole(tight(portrait, face.landmarks, 1.0))) == 1
    assert not FINDER.fit_whole(np.full((224, 224, 3), 127, np.uint8))
    frames = [frame for _, frame in read_frames(shared_data / "edge" / "no_face.mp4", [0.0, 0.5, 1.0])]
    assert not any(FINDER.fit_whole(np.ascontiguousarray(frame[:200, at : at + 200])) for frame in frames for at in (0, 100))


def test_haar_finds_the_frontal_face_too(shared_data):
    haar = FaceFinder(FaceSettings(detector="haar"))
    found = 0
    names = sorted((shared_data / "real" / "clips").glob("*_a.mp4"))[:8]
    for path in names:
        ((_, frame),) = read_frames(path, [0.5])
        both = haar.find(frame), FINDER.find(frame)
        if both[0]:
            found += 1
            assert np.abs(both[0][0].landmarks - both[1][0].landmarks).mean() < 0.06 * np.ptp(both[1][0].landmarks[:, 1])
    assert found >= 6


def test_real_faces_are_found_in_nearly_every_frame(shared_data):
    """All 43 clips, two frames a second: a face in at least 95% of the frames of each clip, in at least 99% of all."""
    seen = found = 0
    for path in sorted((shared_data / "real" / "clips").glob("*.mp4")):
        times = [k / 2 for k in range(max(2, int(probe(path).duration_seconds * 2)))]
        hits = [bool(FINDER.find(frame)) for _, frame in read_frames(path, times)]
        assert sum(hits) >= 0.95 * len(hits), path.name
        seen, found = seen + len(hits), found + sum(hits)
    assert seen > 300 and found >= 0.99 * seen


def test_real_photos_show_a_face(shared_data):
    with (shared_data / "labels.csv").open() as table:
        names = [row["path"] for row in csv.DictReader(table) if row["path"].startswith("real/photos/")][::6]
    hits = [bool(FINDER.find(read_image(shared_data / name))) for name in names]
    assert sum(hits) >= 0.95 * len(hits)
