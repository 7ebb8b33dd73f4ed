"""Fixtures that more than one room's tests use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real faces, beside the checkout or where VIGIL_SHARED_DATA says. The test is skipped where it is absent."""
    folder = Path(os.environ.get("VIGIL_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no shared media: {folder} has no labels.csv (set VIGIL_SHARED_DATA)")
    return folder
