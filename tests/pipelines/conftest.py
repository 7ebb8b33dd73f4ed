"""Sample media, rendered once for all tests of the stages."""

from pathlib import Path

import pytest

from media.synthetic.sample import make_sample_media


@pytest.fixture(scope="session")
def sample_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/, fake/blendswap/ and labels.csv of six rendered people: 12 real takes, 6 fakes."""
    folder = tmp_path_factory.mktemp("sample-media")
    make_sample_media(folder, people=6, clips_per_person=2, seconds=1.0, seed=5, fakes={"blendswap": 1}, size_px=224)
    return folder
