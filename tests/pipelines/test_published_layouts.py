"""Data sets as they are published, in miniature: all of them through `vigil ingest` at once, and each with parts missing or wrong."""

import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from pipelines.layouts import LAYOUTS, read_layout
from pipelines.layouts.page import PAGE, with_cards
from tests.pipelines import odd_inputs as odd
from tests.pipelines.trees import TREES, put, write_json
from tests.system.world import vigil, vigil_json
from vigil.taking_in import named_sources
from workspace.choices import LayoutName
from workspace.errors import DataError
from workspace.manifest import read_manifest, read_media
from workspace.settings import SourceSettings

COLUMNS = ("label", "use", "identity", "donor", "generator", "method", "compression", "source_video")
# path -> the columns above, as published
EXPECTED: dict[str, dict[str, tuple[str, ...]]] = {
    "celebdf": {
        "Celeb-real/id0_0000.mp4": ("real", "train", "celebdf-id0", "", "", "", "", "celebdf-id0_0000"),
        "Celeb-real/id1_0003.mp4": ("real", "train", "celebdf-id1", "", "", "", "", "celebdf-id1_0003"),
        "Celeb-synthesis/id0_id1_0000.mp4": ("fake", "train", "celebdf-id0", "celebdf-id1", "Celeb-synthesis", "Celeb-synthesis", "", "celebdf-id0_0000"),
        "Celeb-synthesis/id1_id0_0003.mp4": ("fake", "evaluate", "celebdf-id1", "celebdf-id0", "Celeb-synthesis", "Celeb-synthesis", "", "celebdf-id1_0003"),
        "YouTube-real/00170.mp4": ("real", "evaluate", "celebdf-youtube-00170", "", "", "", "", "celebdf-youtube-00170"),
    },
    "dfdc": {
        "dfdc_train_part_0/aaa.mp4": ("real", "train", "dfdc-aaa", "", "", "", "", "dfdc-aaa"),
        "dfdc_train_part_0/bbb.mp4": ("fake", "train", "dfdc-aaa", "", "DFDC", "", "", "dfdc-aaa"),
        "dfdc_train_part_1/ccc.mp4": ("fake", "evaluate", "dfdc-aaa", "", "DFDC", "", "", "dfdc-aaa"),
    },
    "wilddeepfake": {
        f"{part}/{archive}/{part[:4]}/{rest}": (
            part[:4], use, f"wilddeepfake-{part}-{archive}", "", "WildDeepfake" if part[:4] == "fake" else "", "", "", f"wilddeepfake-{part}-{archive}"
        )
        for part, archive, rest, use in (
            ("real_train", 0, "3/12.png", "train"), ("real_train", 0, "3/13.png", "train"), ("real_test", 1, "0/5.png", "evaluate"),
            ("fake_train", 7, "0/1.png", "train"), ("fake_train", 7, "4/9.png", "train"), ("fake_test", 2, "0/5.png", "evaluate"),
        )
    },
    "openforensics": {
        "Images/Train/a.jpg": ("real", "train", "file", "", "", "", "", ""),
        "Images/Train/b.jpg": ("fake", "train", "file", "", "OpenForensics", "", "", ""),
        "Images/Train/c.jpg": ("fake", "never", "file", "", "OpenForensics", "", "", ""),
        "Images/Train/d.jpg": ("", "train", "file", "", "", "", "", ""),
        "Images/Test-Challenge/e.jpg": ("fake", "evaluate", "file", "", "OpenForensics", "", "", ""),
    },
    "deepfakebench": {
        "rgb/FaceForensics++/original_sequences/youtube/c23/frames/071/000.png": ("real", "train", "youtube-071", "", "", "", "c23", "youtube-071"),
        "rgb/FaceForensics++/original_sequences/youtube/c23/frames/071/030.png": ("real", "train", "youtube-071", "", "", "", "c23", "youtube-071"),
        "rgb/FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/054_071/000.png": (
            "fake", "evaluate", "youtube-054", "youtube-071", "Deepfakes", "Deepfakes", "c23", "youtube-054",
        ),
        "rgb/Celeb-DF-v2/Celeb-synthesis/frames/id0_id1_0000/000.png": (
            "fake", "train", "celebdf-id0", "celebdf-id1", "CelebDFv2", "CelebDFv2", "", "celebdf-id0_0000",
        ),
        "rgb/UADFV/fake/frames/0000_fake/000.png": ("fake", "evaluate", "UADFV-0000_fake", "", "UADFV", "UADFV", "", "UADFV-0000_fake"),
    },
    "celeba": {
        "Img/img_align_celeba/000001.jpg": ("real", "train", "celeba-2880", "", "", "", "", ""),
        "Img/img_align_celeba/000002.jpg": ("real", "train", "celeba-2880", "", "", "", "", ""),
        "Img/img_align_celeba/000003.jpg": ("real", "evaluate", "celeba-17", "", "", "", "", ""),
    },
    "df40": {
        "DF40_train/simswap/frames/001_870/000.png": ("fake", "train", "youtube-001", "youtube-870", "simswap", "simswap", "", "youtube-001"),
        "DF40_train/StyleGAN2/001/seed0188.png": ("fake", "train", "youtube-001", "", "StyleGAN2", "StyleGAN2", "", "youtube-001"),
        "DF40/blendface/cdf/frames/id0_id1_0000/000.png": ("fake", "evaluate", "celebdf-id0", "celebdf-id1", "blendface", "blendface", "", "celebdf-id0_0000"),
        "DF40/heygen/real/clip7/000.png": ("real", "evaluate", "df40-heygen-real-clip7", "", "", "", "", "df40-heygen-real-clip7"),
        "DF40/heygen/fake/clip7/000.png": ("fake", "evaluate", "df40-heygen-fake-clip7", "", "heygen", "heygen", "", "df40-heygen-fake-clip7"),
    },
    "faceforensics": {
        "original_sequences/youtube/c23/videos/071.mp4": ("real", "train", "youtube-071", "", "", "", "c23", "youtube-071"),
        **{
            f"manipulated_sequences/Deepfakes/{rate}/videos/071_054.mp4": (
                "fake", "train", "youtube-071", "youtube-054", "Deepfakes", "Deepfakes", rate, "youtube-071",
            )
            for rate in ("c23", "c40")
        },
    },
}  # fmt: skip
# what the card of each tree says: found beside published
COUNTS = {
    "celebdf": {"real": (3, 890), "fake": (2, 5639), "test": (2, 518)},
    "dfdc": {"real": (1, 19154), "fake": (2, 100000)},
    "wilddeepfake": {"sequences": (5, 7314)},
    "openforensics": {"files": (5, 115325)},
    "deepfakebench": {},
    "celeba": {"files": (3, 202599), "people": (2, 10177)},
    "df40": {"generators": (4, 40)},
    "faceforensics": {"videos": (1, 1363)},
}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """All trees, taken in by one `vigil ingest` with layout auto: (workspace, folder of the trees, the report's sources by name)."""
    root, trees = tmp_path_factory.mktemp("published") / "w", tmp_path_factory.mktemp("trees")
    for name, make in TREES.items():
        (trees / name).mkdir()
        make(trees / name)
    vigil("init", root, "--profile", "demo")
    reports = vigil_json("ingest", *(trees / name for name in TREES), "-w", root)
    found: dict[str, Any] = {}
    for report in reports:
        assert report["problems"] == {}
        found |= {name: counts | {"batch": report["batches"][0]} for name, counts in report["sources"].items()}
    return root, trees, found


@pytest.mark.parametrize("name", TREES)
def test_a_tree_comes_in_as_published(name: str, ingested: tuple[Path, Path, dict[str, Any]]) -> None:
    root, trees, reports = ingested
    folder = root / "data" / "raw" / reports[name]["batch"]
    rows = read_manifest(folder).to_dict("records")
    seen = {row["path"]: tuple("file" if column == "identity" and row[column].startswith("file-") else row[column] for column in COLUMNS) for row in rows}
    assert seen == EXPECTED[name]
    for row in rows:
        assert read_media(folder, row["shard"], row["offset"], row["bytes"], row["sample_id"]) == (trees / name / row["path"]).read_bytes()
        assert row["kind"] == ("video" if row["path"].endswith(".mp4") else "image")
        assert row["licence"] == LAYOUTS[name].CARD.terms and row["quarantine"] == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", TREES)
def test_found_counts_stand_beside_the_published_ones(name: str, ingested: tuple[Path, Path, dict[str, Any]]) -> None:
    card = ingested[2][name]["card"]
    assert {what: (pair["found"], pair["published"]) for what, pair in card["counts"].items()} == COUNTS[name]
    assert card["title"] == LAYOUTS[name].CARD.title and card["terms"]  # type: ignore[attr-defined]


def test_the_report_for_people_names_the_card_and_a_second_ingest_adds_nothing(ingested: tuple[Path, Path, dict[str, Any]]) -> None:
    root, trees, _ = ingested
    said = vigil("ingest", *(trees / name for name in TREES), "-w", root).stdout
    assert "Celeb-DF v2 (Li et al. 2020): 3 of 890 real, 2 of 5639 fake, 2 of 518 test, as published; terms: Terms to Use Celeb-DF" in said
    assert said.count(" 0 new, ") == len(TREES) and "new batch" not in said


ELSEWHERE = {
    "celebdf": ("Extra/a.mp4", "b.mp4"), "dfdc": ("test_videos/q.mp4",), "wilddeepfake": ("other/a.png",), "openforensics": ("Images/Extra/a.jpg",),
    "deepfakebench": ("rgb/UADFV/fake/frames/0000_fake/055.png",), "celeba": ("q.jpg",), "df40": ("DF40/unheard_of/real/clip1/0.png",),
    "faceforensics": ("Celeb-real/id0_0000.mp4", "real/mine.mp4", "fake/simswap/mine.mp4"),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_media_beside_a_published_set_are_counted(name: str, tmp_path: Path) -> None:
    """One's own real/ and fake/, and a second data set, were passed over without a word where the folder holds a data set that is recognised."""
    folder = tmp_path / "both"
    TREES[name](folder)
    assert read(folder).unlisted == 0
    put(folder, *ELSEWHERE[name], "masks/071.png", ".hidden/a.mp4")
    (folder / "notes.txt").touch()
    assert read(folder).unlisted == len(ELSEWHERE[name])


def test_media_beside_a_published_set_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    TREES["faceforensics"](folder)
    put(folder, *ELSEWHERE["faceforensics"])
    vigil("init", tmp_path / "w", "--profile", "demo")
    said = vigil("ingest", folder, "-w", tmp_path / "w").stdout
    assert "  3 photos and videos are at no place of FaceForensics++ (Roessler et al. 2019) with DeepFakeDetection; passed over" in said


def test_every_published_layout_has_a_tree_and_a_card() -> None:
    assert set(TREES) == {name for name, module in LAYOUTS.items() if hasattr(module, "CARD")} == set(EXPECTED)


def test_the_page_shows_the_cards_and_the_command_line_knows_every_layout() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_cards(page) == page, "run `python -m pipelines.layouts.page`"
    assert {"auto", *LAYOUTS} == set(get_args(LayoutName))


def read(folder: Path, **more: object) -> Any:
    return read_layout(SourceSettings.model_validate({"name": "here", "path": str(folder), **more}), folder)


def remove(*names: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        for name in names:
            shutil.rmtree(tree / name) if (tree / name).is_dir() else (tree / name).unlink()

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda tree: (tree / name).write_text(text) and None  # type: ignore[func-returns-value]


def pack(tree: Path) -> None:
    """WildDeepfake as it arrives: every archive still packed."""
    for part in tree.iterdir():
        for archive in list(part.iterdir()):
            with tarfile.open(part / f"{archive.name}.tar.gz", "w:gz") as packed:
                packed.add(archive, archive.name)
            shutil.rmtree(archive)


UADFV_FRAME = "UADFV/fake/frames/0000_fake/000.png"
UADFV = "preprocessing/dataset_json/UADFV.json"
FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "the testing list is missing": ("celebdf", remove("List_of_testing_videos.txt"), "would be trained on"),
    "a folder is missing": ("celebdf", remove("YouTube-real"), "YouTube-real is missing"),
    "the testing list is turned round": ("celebdf", write("List_of_testing_videos.txt", "0 YouTube-real/00170.mp4\n"), "in it 1 means real"),
    "the testing list is something else": ("celebdf", write("List_of_testing_videos.txt", "<html>\n"), "line 1 is '<html>'"),
    "a part without its table": ("dfdc", remove("dfdc_train_part_1/metadata.json"), "metadata.json is missing"),
    "a table cut short": ("dfdc", write("dfdc_train_part_0/metadata.json", '{"aaa.mp4": {"label"'), "not JSON"),
    "a table that says one thing twice": (
        "dfdc", write("dfdc_train_part_0/metadata.json", '{"aaa.mp4": {"label": "REAL"}, "aaa.mp4": {"label": "FAKE"}}'), "'aaa.mp4' more than once"
    ),
    "a table that is a list": ("dfdc", write("dfdc_train_part_0/metadata.json", "[]"), "holds no dict"),
    "a label of its own": ("dfdc", write("dfdc_train_part_0/metadata.json", '{"aaa.mp4": {"label": 1}}'), "label 1"),
    "an entry that leads out": ("dfdc", write("dfdc_train_part_0/metadata.json", '{"../x.mp4": {"label": "REAL"}}'), "entry '../x.mp4'"),
    "one part of four": ("wilddeepfake", remove("real_test"), "real_test is missing"),
    "archives not unpacked": ("wilddeepfake", pack, "tar xf"),
    "pictures without their annotations": ("openforensics", remove("Train_poly.json"), "Images/Train/ has no Train_poly.json"),
    "annotations without their pictures": ("openforensics", remove("Images/Train"), "its pictures are not"),
    "annotations of another kind": ("openforensics", write("Train_poly.json", '{"images": [{"id": 1}]}'), "not COCO"),
    "other categories": (
        "openforensics", write("Train_poly.json", '{"images": [], "annotations": [], "categories": [{"id": 0, "name": "dog"}]}'), "are dog, not real and fake"
    ),
    "frames that are not there": ("deepfakebench", remove("rgb"), "None of the 5 frames"),
    "JSON of another form": ("deepfakebench", write(UADFV, '{"UADFV": {"UADFV_Fake": {"later": {}}}}'), "not of DeepfakeBench's form"),
    "a label that says nothing": ("deepfakebench", write(UADFV, '{"U": {"odd": {"train": {"v": {"frames": ["a.png"]}}}}}'), "neither real nor fake"),
    "no partition": ("celeba", remove("Eval/list_eval_partition.txt"), "would be trained on"),
    "a partition with a fourth part": ("celeba", write("Eval/list_eval_partition.txt", "000001.jpg 3\n"), "a part '3'"),
    "attributes cut short": ("celeba", write("Anno/list_attr_celeba.txt", "3\nMale Young\n000001.jpg 1\n"), "1 or -1 for each of 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_or_partial_tree_is_refused_and_says_why(fault: str, tmp_path: Path) -> None:
    name, change, complaint = FAULTS[fault]
    TREES[name](tmp_path)
    change(tmp_path)
    with pytest.raises(DataError) as refused:
        read(tmp_path)
    assert complaint in str(refused.value), str(refused.value)


@pytest.mark.parametrize("name", TREES)
def test_a_named_layout_refuses_a_folder_that_is_something_else(name: str, tmp_path: Path) -> None:
    put(tmp_path, "real/a.jpg")
    with pytest.raises(DataError, match=r"is not"):
        read(tmp_path, layout=name)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("celebdf", remove("Celeb-synthesis/id1_id0_0003.mp4"), {"Celeb-synthesis/id1_id0_0003.mp4": "file not found"}),
        ("celebdf", lambda tree: put(tree, "Celeb-real/odd.mp4"), {"Celeb-real/odd.mp4": "its name does not say who is in it"}),
        ("dfdc", remove("dfdc_train_part_0/bbb.mp4"), {"dfdc_train_part_0/bbb.mp4": "file not found"}),
        ("dfdc", lambda tree: put(tree, "dfdc_train_part_1/new.mp4"), {"dfdc_train_part_1/new.mp4": "not in metadata.json"}),
        ("wilddeepfake", lambda tree: put(tree, "real_train/0/fake/3/1.png"), {"real_train/0/fake/3/1.png": "its folders disagree about its label"}),
        ("openforensics", lambda tree: put(tree, "Images/Train/z.jpg"), {"Images/Train/z.jpg": "not in Train_poly.json"}),
        ("openforensics", remove("Images/Train/a.jpg"), {"Images/Train/a.jpg": "file not found"}),
        ("celeba", remove("Img/img_align_celeba/000002.jpg"), {"Img/img_align_celeba/000002.jpg": "file not found"}),
        ("celeba", lambda tree: put(tree, "Img/img_align_celeba/9.jpg"), {"Img/img_align_celeba/9.jpg": "not in list_eval_partition.txt"}),
        (
            "deepfakebench",
            lambda tree: [
                write_json(tree / f"preprocessing/dataset_json/{name}.json", {name: {f"U_{label}": {split: {"v": {"frames": [f"x/{UADFV_FRAME}"]}}}}})
                for name, label, split in (("A", "Real", "test"), ("Z", "Fake", "test"))
            ] and None,
            {f"rgb/{UADFV_FRAME}": "its JSON files disagree about its label"},
        ),
        ("df40", lambda tree: put(tree, "DF40/simswap/a.png"), {"DF40/simswap/a.png": "not at a place of DF40"}),
    ],
)  # fmt: skip
def test_a_single_file_that_does_not_fit_is_put_aside_with_its_reason(
    name: str, change: Callable[[Path], None], expected: dict[str, str], tmp_path: Path
) -> None:
    TREES[name](tmp_path)
    change(tmp_path)
    assert {found.name: found.problem for found in read(tmp_path).files if found.problem} == expected


CLOSED = """
import sys
from pathlib import Path
from pipelines.layouts import read_layout
from workspace.errors import DataError
from workspace.settings import SourceSettings
for tree in map(Path, sys.argv[1:]):
    for folder in sorted(path for path in tree.rglob("*") if path.is_dir()):
        folder.chmod(0)
        try:
            found = read_layout(SourceSettings(name="here", path=str(tree), layout=tree.name), tree).files
            print(folder, "named" if any(one.problem and one.path.is_relative_to(folder) for one in found) else "silent")
        except (DataError, OSError):
            print(folder, "refused")
        finally:
            folder.chmod(0o755)
"""


def test_a_folder_that_may_not_be_read_is_named_or_stops_its_source_and_is_no_mistake_of_vigil(tmp_path: Path) -> None:
    """One closed folder of a method in DF40 ended the ingest of all the others as a mistake in Vigil."""
    for name, make in TREES.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    done = odd.run([sys.executable, "-c", CLOSED, *(str(tmp_path / name) for name in TREES)])
    assert done.returncode == 0, done.stderr[-3000:]
    said = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert said[str(tmp_path / "df40/DF40/heygen")] == said[str(tmp_path / "df40/DF40/heygen/real")] == "named"
    assert all("landmarks" in folder for folder, word in said.items() if word == "silent"), said


def test_df40_may_lie_in_a_folder_of_its_name(tmp_path: Path) -> None:
    """~/DF40/DF40/ and ~/DF40/DF40_train/ were refused, as being neither."""
    TREES["df40"](tmp_path / "DF40")
    found = {one.name: one.use for one in read(tmp_path / "DF40").files}
    assert {name: use or "train" for name, use in found.items()} == {name: columns[1] for name, columns in EXPECTED["df40"].items()}
    put(tmp_path, "DF40/lia/frames/001_870/000.png")
    assert [one.name for one in read(tmp_path / "DF40").files if one.name not in found] == ["lia/frames/001_870/000.png"]
    assert {one.name: one.use for one in read(tmp_path / "DF40/DF40_train").files} == {
        name.removeprefix("DF40_train/"): use for name, use in found.items() if name.startswith("DF40_train/")
    }


def test_df40_calls_heygen_as_its_json_files_do(tmp_path: Path) -> None:
    """The download has it in heygen_new/, which was passed over: one of the nine methods that bring reals of their own never came in."""
    put(tmp_path, "DF40/heygen_new/fake/clip7/000.png", "DF40/heygen_new/real/clip7/000.png")
    listing = read(tmp_path)
    assert [(found.label, found.generator) for found in listing.files] == [("fake", "heygen"), ("real", "")] and listing.unlisted == 0


@pytest.mark.parametrize("top", ["original_sequences", "manipulated_sequences"])
def test_faceforensics_with_one_of_its_folders_reports_no_file_that_is_not_there(top: str, tmp_path: Path) -> None:
    TREES["faceforensics"](tmp_path)
    shutil.rmtree(tmp_path / top)
    assert not any(found.problem for found in read(tmp_path).files)


YOUTUBE, SWAPS = "FaceForensics++/original_sequences/youtube/c23/frames", "DF40_train/simswap/frames"
CELEB, DEEPER = "Celeb-DF-v2", "DeeperForensics-1.0/manipulated_videos/end_to_end/frames"
# the same people where a set is downloaded by itself: (layout, path) -> identity, donor, source_video
PEOPLE = {
    ("faceforensics", "original_sequences/youtube/c23/videos/071.mp4"): ("youtube-071", "", "youtube-071"),
    ("faceforensics", "manipulated_sequences/FaceShifter/c23/videos/071_054.mp4"): ("youtube-071", "youtube-054", "youtube-071"),
    ("faceforensics", "original_sequences/actors/c23/videos/03__kitchen.mp4"): ("actors-03", "", "actors-03__kitchen"),
    ("celebdf", "Celeb-real/id1_0003.mp4"): ("celebdf-id1", "", "celebdf-id1_0003"),
    ("celebdf", "Celeb-synthesis/id1_id0_0003.mp4"): ("celebdf-id1", "celebdf-id0", "celebdf-id1_0003"),
    ("celebdf", "YouTube-real/00170.mp4"): ("celebdf-youtube-00170", "", "celebdf-youtube-00170"),
    ("dfdc", "dfdc_train_part_0/aaa.mp4"): ("dfdc-aaa", "", "dfdc-aaa"),
    ("df40", f"{SWAPS}/071_054/000.png"): ("youtube-071", "youtube-054", "youtube-071"),
    ("df40", "DF40/simswap/cdf/frames/id1_id0_0003/000.png"): ("celebdf-id1", "celebdf-id0", "celebdf-id1_0003"),
    ("df40", "DF40/DiT/cdf/YouTube-real/00170/458.png"): ("celebdf-youtube-00170", "", "celebdf-youtube-00170"),
}
# and where DeepfakeBench or DF40 arranged it, with their labels: (JSON file's set, label, video, frame) -> which of the above
ARRANGED = {
    ("FaceForensics++", "FF-real", "071", f"{YOUTUBE}/071/000.png"): "original_sequences/youtube/c23/videos/071.mp4",
    ("FaceShifter", "FF-FH", "071_054", "FaceForensics++/manipulated_sequences/FaceShifter/c23/frames/071_054/000.png"):
        "manipulated_sequences/FaceShifter/c23/videos/071_054.mp4",
    ("DeepFakeDetection", "DFD_real", "03__kitchen", "FaceForensics++/original_sequences/actors/c23/frames/03__kitchen/0.png"):
        "original_sequences/actors/c23/videos/03__kitchen.mp4",
    ("DeeperForensics-1.0", "DF_real", "071", f"{YOUTUBE}/071/002.png"): "original_sequences/youtube/c23/videos/071.mp4",
    ("Celeb-DF-v1", "CelebDFv1_real", "00170", "Celeb-DF-v1/YouTube-real/frames/00170/000.png"): "YouTube-real/00170.mp4",
    ("Celeb-DF-v2", "CelebDFv2_real", "00170", f"{CELEB}/YouTube-real/frames/00170/000.png"): "YouTube-real/00170.mp4",
    ("Celeb-DF-v2", "CelebDFv2_fake", "id1_id0_0003", f"{CELEB}/Celeb-synthesis/frames/id1_id0_0003/000.png"): "Celeb-synthesis/id1_id0_0003.mp4",
    ("DFDC", "DFDC_Real", "aaa", "DFDC/train/dfdc_train_part_0/frames/aaa/000.png"): "dfdc_train_part_0/aaa.mp4",
    ("simswap_ff", "simswap_Real", "071", f"{YOUTUBE}/071/004.png"): "original_sequences/youtube/c23/videos/071.mp4",
    ("simswap_ff", "simswap_Fake", "071_054", f"{SWAPS}/071_054/000.png"): f"{SWAPS}/071_054/000.png",
    ("simswap_cdf", "simswap_Real", "00170", f"{CELEB}/YouTube-real/frames/00170/002.png"): "YouTube-real/00170.mp4",
    ("simswap_cdf", "simswap_Real", "id1_0003", f"{CELEB}/Celeb-real/frames/id1_0003/002.png"): "Celeb-real/id1_0003.mp4",
    ("simswap_cdf", "simswap_Fake", "id1_id0_0003", "DF40/simswap/cdf/frames/id1_id0_0003/000.png"): "Celeb-synthesis/id1_id0_0003.mp4",
    ("FSAll_ff", "FSAll_Fake", "071_054_simswap", f"{SWAPS}/071_054/000.png"): f"{SWAPS}/071_054/000.png",
    ("EFSAll_cdf", "EFSAll_Fake", "00170", "DF40/DiT/cdf/YouTube-real/00170/458.png"): "DF40/DiT/cdf/YouTube-real/00170/458.png",
    ("roop", "roop_Real", "id1_0003", f"{CELEB}/Celeb-real/frames/id1_0003/004.png"): "Celeb-real/id1_0003.mp4",
    ("roop", "roop_Fake", "id1_id0_0003", "roop/cdfv2/faces_all/id1_id0_0003/000.png"): "Celeb-synthesis/id1_id0_0003.mp4",
}  # fmt: skip


def people_of(listing: Any) -> dict[str, tuple[str, str, str]]:
    return {found.name: (found.identity, found.donor, found.source_video) for found in listing.files if not found.problem}


def test_a_person_has_one_name_in_a_set_of_its_own_and_wherever_it_was_arranged(tmp_path: Path) -> None:
    """Celeb-DF's YouTube videos, and everybody in DF40's JSON files, were other people than in their own sets: one was judged and trained on."""
    for layout, path in PEOPLE:
        put(tmp_path / layout, path)
    (tmp_path / "celebdf" / "List_of_testing_videos.txt").write_text("")
    write_json(tmp_path / "dfdc/dfdc_train_part_0/metadata.json", {"aaa.mp4": {"label": "REAL", "split": "train"}})
    own = {path: people for layout in {layout for layout, _ in PEOPLE} for path, people in people_of(read(tmp_path / layout)).items()}
    assert own == {path: people for (_, path), people in PEOPLE.items()}
    for number, (name, label, video, frame) in enumerate(ARRANGED):
        bench = tmp_path / f"bench{number}"
        put(bench, frame)
        content = {video: {"label": label, "frames": [f"deepfakes_detection_datasets/{frame}"]}}
        write_json(bench / "preprocessing/dataset_json" / f"{name}.json", {name: {label: {"test": content}}})
        assert people_of(read(bench)) == {frame: own[ARRANGED[name, label, video, frame]]}
    deeper = tmp_path / "deeper"
    put(deeper, f"{DEEPER}/071_M138/000.png")
    write_json(deeper / "dataset_json/DeeperForensics-1.0.json", {"D": {"DF_fake": {"test": {"071_M138": {"frames": [f"/x/{DEEPER}/071_M138/000.png"]}}}}})
    assert people_of(read(deeper)) == {f"{DEEPER}/071_M138/000.png": ("youtube-071", "deeperforensics-M138", "youtube-071")}


def arranged(folder: Path, name: str, labels: dict[str, Any]) -> dict[str, str]:
    """The label of each frame of one JSON file's `labels`, of which all frames are there."""
    for splits in labels.values():
        put(folder, *(frame for videos in splits.values() for video in videos.values() if isinstance(video, dict) for frame in video["frames"]))
    write_json(folder / "dataset_json" / f"{name}.json", {name: labels})
    return {found.name: found.label for found in read(folder).files if not found.problem}


ACTORS = {
    ("DFDCP_Real", "1260311_C_000", "DFDCP/original_videos/frames"): ("dfdcp-1260311", "", "dfdcp-1260311_C"),
    ("DFDCP_FakeB", "1255229_1260311_C_001", "DFDCP/method_B/frames"): ("dfdcp-1260311", "dfdcp-1255229", "dfdcp-1260311_C"),
    ("DF_real", "M138_BlendShape_camera_down", "DeeperForensics-1.0/source_videos/M138/frames"): (
        "deeperforensics-M138", "", "deeperforensics-M138_BlendShape_camera_down",
    ),
    ("DF_fake", "071_M138", DEEPER): ("youtube-071", "deeperforensics-M138", "youtube-071"),
}  # fmt: skip


def test_actors_have_one_name_in_their_own_videos_and_in_fakes(tmp_path: Path) -> None:
    """Each video of DFDCP, and each of the actors in DeeperForensics, stood for a person of its own: one actor stood on all sides."""
    labels = {label: {"train": {video: {"frames": [f"{place}/{video}/000.png"]}}} for label, video, place in ACTORS}
    assert set(arranged(tmp_path, "actors", labels).values()) == {"real", "fake"}
    assert people_of(read(tmp_path)) == {f"{place}/{video}/000.png": people for (_, video, place), people in ACTORS.items()}


def test_pictures_that_df40_lays_into_one_folder_are_a_person_each(tmp_path: Path) -> None:
    """All pictures of a method without folders of their own were one person, and of one video."""
    put(tmp_path, *(f"DF40/MidJourney/{label}/00{number}.png" for label in ("fake", "real") for number in range(2)))
    found = people_of(read(tmp_path))
    assert found["DF40/MidJourney/fake/001.png"] == ("df40-MidJourney-fake-001", "", "df40-MidJourney-fake-001")
    assert len({identity for identity, _, _ in found.values()}) == 4


def test_the_last_word_of_a_label_says_what_its_frames_are(tmp_path: Path) -> None:
    """All fakes of DF40's WhichIsReal came in as real, by the name of their set, and judged so."""
    fake, real = "DF40/whichisreal/fake/000.png", "DF40/whichisreal/real/001.png"
    labels = {
        "whichisreal_Fake": {"test": {"fake_000": {"label": "whichisreal_Fake", "frames": [fake]}}},
        "whichisreal_Real": {"test": {"real_001": {"label": "whichisreal_Real", "frames": [real]}}},
    }
    assert arranged(tmp_path, "whichisreal", labels) == {fake: "fake", real: "real"}


def test_dfdc_comes_in_as_the_script_of_deepfakebench_writes_it(tmp_path: Path) -> None:
    """The script writes each test video into `val` in place of all others, then adds the training videos; the file was refused, and all sets beside it."""
    tested, trained = "DFDC/test/frames/tt/000.png", "DFDC/train/dfdc_train_part_0/frames/aaa/000.png"
    videos = {frame: {"label": "DFDC_Real", "frames": [frame]} for frame in (tested, trained)}
    splits = {"train": {"aaa": videos[trained]}, "test": {"tt": videos[tested]}, "val": {**videos[tested], "aaa": videos[trained]}}
    assert arranged(tmp_path, "DFDC", {"DFDC_Real": splits}) == {tested: "real", trained: "real"}
    assert {found.name: found.use for found in read(tmp_path).files} == {tested: "evaluate", trained: ""}


def test_attributes_of_photos_become_words_of_the_manifest(ingested: tuple[Path, Path, dict[str, Any]]) -> None:
    root, _, reports = ingested
    table = read_manifest(root / "data" / "raw" / reports["celeba"]["batch"])
    assert {Path(row["path"]).name: row["attributes"] for row in table.to_dict("records")} == {
        "000001.jpg": "Smiling Young", "000002.jpg": "", "000003.jpg": "Male Young",
    }  # fmt: skip


def test_without_identities_celeba_knows_nobody(tmp_path: Path) -> None:
    TREES["celeba"](tmp_path)
    (tmp_path / "Anno/identity_CelebA.txt").unlink()
    listing = read(tmp_path)
    assert listing.names_people and {found.identity for found in listing.files} == {""}


@pytest.mark.parametrize("name", ["celebdf", "dfdc", "celeba"])
def test_the_official_split_gives_way_when_a_person_says_so(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path)
    assert "evaluate" in {found.use for found in read(tmp_path).files}
    own = read(tmp_path, split="own")
    assert {found.use for found in own.files} == {""} and own.published == read(tmp_path).published, "what was found does not depend on what it is used for"


@pytest.mark.parametrize(("name", "taken"), [("faceforensics", False), ("celebdf", False), ("celeba", True)])
def test_people_are_not_called_otherwise_than_the_donors_of_fakes(name: str, taken: bool, tmp_path: Path, ingested: tuple[Path, Path, dict[str, Any]]) -> None:
    """By another rule a person and the same one as a donor were two, on two sides of the split, and no check saw it."""
    done = vigil("ingest", ingested[1] / name, "--identity", "pattern:^([a-z0-9]+)", "--name", "other", "-w", ingested[0], check=False)
    assert (done.returncode == 0) is taken and ("otherwise than its donors" in done.stderr) is not taken, done.stderr


@pytest.mark.slow
def test_column_names_of_a_table_are_mapped_at_the_front_door(tmp_path: Path, ingested: tuple[Path, Path, dict[str, Any]]) -> None:
    root = ingested[0]
    put(tmp_path, "m/one.png", "m/two.png", "n/three.png")
    (tmp_path / "all.csv").write_text("Filename,Target,Who\nm/one.png,0,anna\nm/two.png,1,bert\n")
    words = ("--column", "path=filename", "--column", "label=target", "--column", "identity=who", "--label", "0=real", "--label", "1=fake")
    vigil("ingest", tmp_path / "all.csv", *words, "-w", root)
    write_json(tmp_path / "all.json", [{"file": "n/three.png", "truth": "fake", "tool": "gan", "note": None}])
    (said,) = vigil_json(
        "ingest",
        tmp_path / "all.json",
        "--name",
        "more",
        "--column",
        "path=file",
        "--column",
        "label=truth",
        "--column",
        "generator=tool",
        "--identity",
        "file",
        "-w",
        root,
    )
    rows = [row for batch in (root / "data" / "raw").glob("*-all") for row in read_manifest(batch).to_dict("records")]
    assert {(row["path"], row["label"], row["identity"]) for row in rows} == {("m/one.png", "real", "anna"), ("m/two.png", "fake", "bert")}
    (row,) = read_manifest(root / "data" / "raw" / said["batches"][0]).to_dict("records")
    assert (row["path"], row["label"], row["generator"]) == ("n/three.png", "fake", "gan")
    wrong = vigil("ingest", tmp_path / "all.csv", "--column", "path=nothing", "-w", root, check=False)
    assert wrong.returncode == 1 and "no column nothing" in wrong.stderr and "Traceback" not in wrong.stderr
    for word in ("weight=x", "path"):
        with pytest.raises(typer.BadParameter):
            named_sources([str(tmp_path / "all.csv")], "auto", "", "", [], [word])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", json.dumps({"a.png": {"label": "real", "use": "evaluate"}})),
        ("t.json", json.dumps([{"Path": "a.png", "label": "REAL", "use": "evaluate"}])),
        ("t.jsonl", '{"path": "a.png", "label": "real", "use": "evaluate"}\n\n'),
        ("t.jsonl", '{"path": "a.png", "label": "real", "use": "evaluate", "note": "two\u2028lines\x85"}\r\n'),
    ],
)
def test_all_forms_of_json_say_the_same(name: str, text: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / name).write_text(text)
    (found,) = read(tmp_path / name).files
    assert (found.name, found.label, found.use, found.problem) == ("a.png", "real", "evaluate", "")


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_a_json_cell_that_is_no_number_is_empty_as_one_that_is_null(name: str, tmp_path: Path) -> None:
    """pandas writes NaN for every empty cell: all strangers of a table were one person, `nan`."""
    columns = ("label", "use", "identity", "donor", "generator", "source_video", "attributes")
    found = []
    for nothing in (float("nan"), None):
        entry = {"path": "a.png", **dict.fromkeys(columns, nothing)}
        (tmp_path / name).write_text(json.dumps(entry if name.endswith("l") else [entry]))
        found.append(read(tmp_path / name).files)
    assert found[0] == found[1] and {getattr(found[0][0], column) for column in columns} == {""}


def test_a_list_of_attributes_is_those_words_and_columns_that_nobody_reads_are_free(tmp_path: Path) -> None:
    """Words of Python's spelling, such as `['Male',`, became slices of the report."""
    entry = {"path": "a.png", "label": "real", "tags": ["Male", "Wearing Hat", " Young"], "boxes": [[1, 2]], "camera": {"id": 3}, "case_id": [4]}
    (tmp_path / "t.json").write_text(json.dumps([entry, {"path": "b.png", "label": "real", "tags": []}]))
    assert [found.attributes for found in read(tmp_path / "t.json", columns={"attributes": "tags"}).files] == ["Male Wearing_Hat Young", ""]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("t.json", "{", "not JSON"),
        ("t.json", "3", "holds no"),
        ("t.json", "[1]", "entry 1 is no object"),
        ("t.json", '[{"Path": ["a.mp4"], "label": "real"}]', "'Path' of entry 1 is no single word"),
        ("t.json", '[{"path": "a", "label": "real"}, {"path": "b", "label": "real", "Identity": ["anna"]}]', "'Identity' of entry 2 is no single word"),
        ("t.jsonl", '{"path": "a", "label": "fake", "generator": {"id": 3}}', "'generator' of entry 1 is no single word"),
        ("t.json", '[{"path": "a", "label": "real", "attributes": ["Male", 3]}]', "'attributes' of entry 1 is no single word"),
        ("t.json", '[{"path": "a", "label": "real", "attributes": {"Male": 1}}]', "'attributes' of entry 1 is no single word"),
        ("t.json", '[{"file": "a"}]', "no column path"),
        ("t.json", '[{"path": "a", "label": "maybe"}]', "entry 1: label 'maybe'"),
        ("t.json", '[{"path": "a", "label": "real", "Identity": "ana \\ud83d"}]', "entry 1: half a character in its identity"),
        ("t.json", '{"\\udc00.mp4": {"label": "real"}}', "entry 1: half a character in its path"),
        ("t.jsonl", '{"path": "a"\n', "not JSON lines"),
        ("t.json", "[" * 100_000, "not JSON"),
        ("t.json", '[{"path": "a", "label": "real", "label": "fake"}]', "'label' more than once"),
        ("t.json", '{"a": {"label": "real"}, "a": {"label": "fake"}}', "'a' more than once"),
        ("t.jsonl", '{"path": "a", "label": "real", "label": "fake"}', "'label' more than once"),
        ("t.jsonl", '{"path": "a", "label": "real", "Label": "fake"}', "entry 1 says one key more than once"),
    ],
)
def test_json_that_is_no_table_is_refused(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / name)


def test_columns_go_with_tables_only(tmp_path: Path) -> None:
    put(tmp_path, "real/a.jpg")
    with pytest.raises(DataError, match="has no columns"):
        read(tmp_path, columns={"path": "x"})
