"""Miniature trees in the shapes in which data sets are published: a few small files each, all media real and different."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.media.videos import write_video

ATTRIBUTES = ("Male", "Smiling", "Young")


def picture(name: str, height: int = 48, width: int = 64) -> np.ndarray:
    """Blobs that follow from the name alone, RGB."""
    blobs = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)


def put(folder: Path, *names: str) -> None:
    """A small video or picture at each name, by its suffix."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp4":
            write_video(path, [picture(name), picture(name + "2")], fps=5)
        else:
            assert cv2.imwrite(str(path), picture(name)[:, :, ::-1])


def write_json(path: Path, content: object) -> None:
    """JSON at a path whose folders may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def celebdf(folder: Path) -> None:
    """Two celebrities, a swap each way, one more real video; one swap and the YouTube video are for testing."""
    put(folder, "Celeb-real/id0_0000.mp4", "Celeb-real/id1_0003.mp4", "Celeb-synthesis/id0_id1_0000.mp4", "Celeb-synthesis/id1_id0_0003.mp4")
    put(folder, "YouTube-real/00170.mp4")
    (folder / "List_of_testing_videos.txt").write_text("1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id1_id0_0003.mp4\n")


def dfdc(folder: Path) -> None:
    """Two parts; the first has an original with a fake, the second a fake whose original lies in the first."""
    put(folder, *(f"dfdc_train_part_{part}/{name}.mp4" for part, name in ((0, "aaa"), (0, "bbb"), (1, "ccc"))))
    about = {"aaa.mp4": {"label": "REAL", "split": "train"}, "bbb.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"}}
    write_json(folder / "dfdc_train_part_0/metadata.json", about)
    write_json(folder / "dfdc_train_part_1/metadata.json", {"ccc.mp4": {"label": "FAKE", "split": "test", "original": "aaa.mp4"}})


def wilddeepfake(folder: Path) -> None:
    """A sequence a part, two in the training fakes."""
    put(folder, "real_train/0/real/3/12.png", "real_train/0/real/3/13.png", "real_test/1/real/0/5.png", "fake_test/2/fake/0/5.png")
    put(folder, "fake_train/7/fake/0/1.png", "fake_train/7/fake/4/9.png")


def openforensics(folder: Path) -> None:
    """Training pictures with real, fake, mixed and no faces, and a mixed one to test on."""
    faces = {"Train": {"a.jpg": [0, 0], "b.jpg": [1], "c.jpg": [0, 1], "d.jpg": []}, "Test-Challenge": {"e.jpg": [1, 0]}}
    for part, pictures in faces.items():
        put(folder, *(f"Images/{part}/{name}" for name in pictures))
        annotations = [
            {"id": 10 * image + at, "image_id": image, "category_id": kind, "iscrowd": 0, "bbox": [4, 4, 4, 4], "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8]]}
            for image, kinds in enumerate(pictures.values())
            for at, kind in enumerate(kinds)
        ]  # fmt: skip
        images = [{"id": image, "file_name": f"Images/{part}/{name}", "width": 64, "height": 48} for image, name in enumerate(pictures)]
        categories = [{"id": 0, "name": "Real"}, {"id": 1, "name": "Fake"}]
        write_json(folder / f"{part}_poly.json", {"images": images, "annotations": annotations, "categories": categories})


def deepfakebench(folder: Path) -> None:
    """FaceForensics++ with compressions, Celeb-DF without, and one set whose splits overlap; paths as other machines wrote them."""
    ff, cdf, uadfv = "FaceForensics++/original_sequences/youtube/c23/frames", "Celeb-DF-v2/Celeb-synthesis/frames", "UADFV/fake/frames"
    swap = "FaceForensics++/manipulated_sequences/Deepfakes/c23/frames"
    put(folder / "rgb", f"{ff}/071/000.png", f"{ff}/071/030.png", f"{swap}/054_071/000.png", f"{cdf}/id0_id1_0000/000.png", f"{uadfv}/0000_fake/000.png")

    def video(label: str, *frames: str) -> dict[str, object]:
        return {"label": label, "frames": [f"/home/somebody/datasets/rgb/{frame}" for frame in frames]}

    real, fake = video("FF-real", f"{ff}/071/000.png", f"{ff}/071/030.png"), video("FF-DF", f"{swap}/054_071/000.png".replace("/", "\\"))
    tables = folder / "preprocessing" / "dataset_json"
    write_json(
        tables / "FaceForensics++.json", {"FaceForensics++": {"FF-real": {"train": {"c23": {"071": real}}}, "FF-DF": {"test": {"c23": {"054_071": fake}}}}}
    )
    write_json(tables / "Celeb-DF-v2.json", {"Celeb-DF-v2": {"CelebDFv2_fake": {"val": {"id0_id1_0000": video("x", f"{cdf}/id0_id1_0000/000.png")}}}})
    both = {split: {"0000_fake": video("x", f"{uadfv}/0000_fake/000.png")} for split in ("train", "val", "test")}
    write_json(tables / "UADFV.json", {"UADFV": {"UADFV_Fake": both, "UADFV_Real": {"train": {}}}})


def celeba(folder: Path) -> None:
    """Three photos of two people, one to test on."""
    put(folder, *(f"Img/img_align_celeba/00000{number}.jpg" for number in (1, 2, 3)))
    (folder / "Anno").mkdir()
    (folder / "Eval").mkdir()
    (folder / "Anno/identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2880\n000003.jpg 17\n")
    rows = "".join(f"00000{number}.jpg {' '.join(marks)}\n" for number, marks in ((1, ("-1", "1", "1")), (2, ("-1", "-1", "-1")), (3, (" 1", "-1", "1"))))
    (folder / "Anno/list_attr_celeba.txt").write_text(f"3\n{' '.join(ATTRIBUTES)}\n{rows}")
    (folder / "Eval/list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")


def df40(folder: Path) -> None:
    """Two training methods, two to test on: one made of Celeb-DF, one with reals of its own; landmarks beside."""
    put(folder, "DF40_train/simswap/frames/001_870/000.png", "DF40_train/StyleGAN2/001/seed0188.png", "DF40/blendface/cdf/frames/id0_id1_0000/000.png")
    put(folder, "DF40/heygen/real/clip7/000.png", "DF40/heygen/fake/clip7/000.png")
    (folder / "DF40_train/simswap/landmarks/001_870").mkdir(parents=True)
    np.save(folder / "DF40_train/simswap/landmarks/001_870/000.npy", np.zeros(3))


def faceforensics(folder: Path) -> None:
    """One original and one swap at two compressions."""
    put(folder, "original_sequences/youtube/c23/videos/071.mp4", "manipulated_sequences/Deepfakes/c23/videos/071_054.mp4")
    put(folder, "manipulated_sequences/Deepfakes/c40/videos/071_054.mp4")


TREES: dict[str, Callable[[Path], None]] = {
    "celebdf": celebdf, "dfdc": dfdc, "wilddeepfake": wilddeepfake, "openforensics": openforensics, "deepfakebench": deepfakebench, "celeba": celeba,
    "df40": df40, "faceforensics": faceforensics,
}  # fmt: skip
