"""Sample media, rendered once for all tests of the stages."""

import shutil
from pathlib import Path

import pytest

from media.synthetic.sample import make_sample_media
from tests.pipelines.small_world import demo_settings
from workspace.settings import SourceSettings


@pytest.fixture(scope="session")
def sample_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/, fake/blendswap/ and labels.csv of six rendered people: 12 real takes, 6 fakes."""
    folder = tmp_path_factory.mktemp("sample-media")
    make_sample_media(folder, people=6, clips_per_person=2, seconds=1.0, seed=5, fakes={"blendswap": 1}, size_px=224)
    return folder


@pytest.fixture(scope="session")
def sample_workspace(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the sample media as batch `w1`, its faces cut and its fakes forged. Copy it before changing anything."""
    from pipelines import faces, forge
    from pipelines.ingest import ingest

    root, settings = tmp_path_factory.mktemp("sample-workspace"), demo_settings()
    ingest(root, settings, [SourceSettings(name="sample", path=str(sample_media))], batch="w1")
    faces.run(root, settings, "w1")
    forge.run(root, settings, "w1")
    return root


@pytest.fixture
def workspace_copy(sample_workspace: Path, tmp_path: Path) -> Path:
    """A copy of `sample_workspace` that a test may change."""
    return Path(shutil.copytree(sample_workspace, tmp_path / "workspace"))
