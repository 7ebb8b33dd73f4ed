"""Media and workspaces that the system tests share; each made once a session."""

from pathlib import Path

import pytest

from media.synthetic import make_sample_media
from tests.system.world import copy_workspace, quick_workspace, vigil


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 16 rendered people, two real clips and two blendswaps each."""
    out = tmp_path_factory.mktemp("media") / "first"
    make_sample_media(out, people=16, clips_per_person=2, seconds=1.0, fakes={"blendswap": 2}, seed=5)
    return out / "labels.csv"


@pytest.fixture(scope="session")
def second_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of a later week: other people, another forger."""
    out = tmp_path_factory.mktemp("media") / "second"
    make_sample_media(out, people=12, clips_per_person=1, seconds=1.0, fakes={"upsampler": 1}, seed=5, first_person=100)
    return out / "labels.csv"


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """A workspace with one new batch, from a plain folder, and no cycle yet. Copy it before changing it."""
    root = quick_workspace(tmp_path_factory.mktemp("ingested") / "w")
    vigil("ingest", media.parent, "--layout", "folder", "--identity", r"pattern:^(p\d+)", "--name", "plain", "-w", root)
    return root


@pytest.fixture(scope="session")
def promoted(tmp_path_factory: pytest.TempPathFactory, ingested: Path) -> Path:
    """The same workspace after its first cycle, promoted. Copy it before changing it."""
    root = copy_workspace(ingested, tmp_path_factory.mktemp("promoted") / "w")
    done = vigil("retrain", "-w", root)
    assert done.returncode == 0 and "PROMOTED" in done.stdout, done.stdout + done.stderr
    return root


@pytest.fixture(scope="session")
def twice(tmp_path_factory: pytest.TempPathFactory, promoted: Path, second_media: Path) -> Path:
    """The same workspace after a second cycle that brought another forger, promoted too. Copy it before changing it."""
    root = copy_workspace(promoted, tmp_path_factory.mktemp("twice") / "w")
    vigil("ingest", second_media, "-w", root)
    done = vigil("retrain", "-w", root)
    assert done.returncode == 0 and "PROMOTED" in done.stdout, done.stdout + done.stderr
    return root
