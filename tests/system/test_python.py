"""The Python API: its page runs as it stands, and importing it costs nothing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from media.faces import extract_clips
from media.synthetic import make_sample_media
from model.inference import LEARNED, Engine
from model.shipped import STARTER, has_starter
from tests.pipelines.test_ingest import photo
from vigil import Detector, open_workspace
from workspace.errors import DataError, ModelFileError, WorkspaceError
from workspace.files import sha256_bytes
from workspace.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not has_starter(), reason="this checkout ships no starter model")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/ and fake/blendswap/ with one clip of each of two people."""
    out = tmp_path_factory.mktemp("clips") / "media"
    make_sample_media(out, people=2, clips_per_person=1, seconds=1.0, fakes={"blendswap": 1}, seed=5, workers=1)
    return out


def test_every_block_of_the_page_runs(clips: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5 and page.count("```") == 2 * len(blocks)
    shutil.copy(sorted(clips.glob("real/*.mp4"))[0], tmp_path / "clip.mp4")
    for label, source in (("real", "real"), ("fake/blendswap", "fake/blendswap")):
        (tmp_path / "media" / label).mkdir(parents=True)
        shutil.copy(sorted((clips / source).glob("*.mp4"))[0], tmp_path / "media" / label)
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vigil init" in done.stdout.splitlines()[-1]


def test_a_script_without_a_guard_runs_once_and_finds_its_copies(tmp_path: Path) -> None:
    """Each process that compares ran the script again, in vain and fifty times over, and copies came in as eighteen people."""
    for quality in range(60, 96, 2):
        photo(tmp_path / "media" / "real" / f"{quality}.jpg", 1, quality)
    (tmp_path / "take_in.py").write_text(
        "from vigil import open_workspace\nprint('begun', flush=True)\nworkspace = open_workspace('w', profile='demo')\n"
        "print(workspace.ingest('media')[0].sources['media'].near_duplicates, __file__, __spec__)\n"
    )
    done = subprocess.run([sys.executable, "take_in.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["begun", f"17 {tmp_path / 'take_in.py'} None"]), done.stderr


def test_a_model_that_was_trained_on_a_clip_says_so(clips: Path, tmp_path: Path) -> None:
    clip = sorted(clips.glob("real/*.mp4"))[0]
    shutil.copytree(STARTER, tmp_path / "model")
    card = json.loads((STARTER / "card.json").read_text())
    engine = Engine(STARTER)
    cut = extract_clips(clip, engine.faces_in(None))
    card["train_clips"] = [sha256_bytes(np.ascontiguousarray(one.frames).tobytes()) for one in cut.clips]
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    assert LEARNED in Detector(tmp_path / "model").score(clip).reason and LEARNED not in Detector(STARTER).score(clip).reason


def test_importing_vigil_brings_in_nothing() -> None:
    asked = "import sys, vigil; print([n for n in ('numpy', 'torch', 'pandas', 'typer', 'pydantic', 'onnxruntime', 'vigil.api') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Oracle'"):
        __import__("vigil").Oracle  # noqa: B018


def test_a_detector_says_what_the_command_line_says_of_paths_bytes_and_arrays(clips: Path, tmp_path: Path) -> None:
    import cv2
    from typer.testing import CliRunner

    from vigil.main import app

    clip = sorted(clips.glob("real/*.mp4"))[0]
    detector = Detector()
    rows = CliRunner().invoke(app, ["score", str(clip), "--json", "-w", str(make(tmp_path))]).stdout
    said = detector.score(clip)
    assert f'"p_fake": {said.p_fake}' in rows and said.worst is not None and said.worst.p_fake == max(one.p_fake for one in said.intervals)
    assert detector.score(clip.read_bytes(), name=str(clip)) == said
    found, frame = cv2.VideoCapture(str(clip)).read()
    assert found
    picture = detector.score(np.ascontiguousarray(frame[:, :, ::-1]))
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    assert (picture.p_fake, picture.kind) == (detector.score(tmp_path / "frame.png").p_fake, "image") and picture.p_fake is not None
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(TypeError, match="uint8"):
            detector.score(wrong)


def test_an_argument_that_cannot_be_is_not_the_fault_of_the_file_or_the_model(clips: Path, tmp_path: Path) -> None:
    """Each good file could not be read, the model's card was broken, labels were read letter by letter."""
    for threads in (0, -1, 100_000):
        with pytest.raises(ValueError, match="from 1 to 1024"):
            Detector(threads=threads)
    for threads in (1.5, None):
        with pytest.raises(TypeError, match="as an integer"):
            Detector(threads=threads)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a clip is an array"):
        Detector().score_clip([1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fpr is a number"):
        Detector(fpr="0.01")  # type: ignore[arg-type]
    clip = sorted(clips.glob("real/*.mp4"))[0]
    with pytest.raises(ValueError, match="use dense, standard or fast"):
        Detector().score(clip, mode="bogus")
    assert Detector().score(clip, mode="") == Detector().score(clip)
    workspace = open_workspace(make(tmp_path))
    for option in ("labels", "columns"):
        with pytest.raises(TypeError, match=f"{option} is a list"):
            workspace.ingest(clips, **{option: "1=fake"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="who is text"):
        workspace.set_batch("w1", "held", who=None, why="seen")  # type: ignore[arg-type]


def make(folder: Path) -> Path:
    return open_workspace(folder / "w", profile="demo").root


def test_a_workspace_names_its_champion_and_judges_with_it(tmp_path: Path) -> None:
    import onnx  # noqa: F401  the import verb wants it

    from tests.pipelines.test_import import foreign
    from vigil.importing import import_model

    workspace = open_workspace(make(tmp_path))
    with pytest.raises(ValueError, match="layout"):
        workspace.ingest(tmp_path, layout="heap")
    with pytest.raises(DataError, match=r"nothere cannot be read\.\n  Why:  there is no"):
        workspace.ingest(tmp_path / "nothere")
    several = workspace.ingest(tmp_path / "nothere", tmp_path / "nor here")
    assert [list(report.problems) for report in several] == [["nothere"], ["nor-here"]]
    assert workspace.champion is None and Detector(workspace).promoted is False
    import_model(workspace.root, workspace.settings, foreign(tmp_path / "f.onnx", ["B", 3, 48, 48]), [], None, "ana", "ours")
    leading = workspace.champion
    assert leading is not None and leading.cycle == "imported" and [row["role"] for row in workspace.models()] == ["champion"]
    mine, named = workspace.detector(), Detector(workspace.root / "models/imported")
    assert mine.promoted and not named.promoted and mine.model == named.model == leading.model_sha256[:12]
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    assert mine.score_clip(noise) == named.score_clip(noise)
    with pytest.raises(ModelFileError, match="no operating point"):
        workspace.detector(fpr=0.01)
    with pytest.raises(WorkspaceError, match="is not in a workspace"):
        Detector(tmp_path)
    assert repr(workspace) == f"Workspace({str(workspace.root)!r})" and len(Journal(workspace.root).events()) == 1
