"""A checkout and a state directory that exist for one test only."""

import os
from pathlib import Path

import pytest

from deploy.portalctl.places import Places

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act for another Unix user")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Empty places, with the folders that `prepare` would make."""
    where = Places(checkout=tmp_path / "checkout", state=tmp_path / "state")
    for folder in (where.checkout, where.run, where.log, where.env, where.images):
        folder.mkdir(parents=True)
    return where
