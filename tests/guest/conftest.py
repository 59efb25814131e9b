"""Fixtures: one CA and one running agent per test, none of them shared with another test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guest.fleet import Agent, Authority, Caller, caller, personalise, running
from tests.guest.glass import Glass


@dataclass
class Site:
    """A folder with a CA, the control plane's identity and an agent's personalisation and data."""

    folder: Path
    authority: Authority
    control_plane: Caller
    personalisation: Path
    data: Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    authority = Authority()
    return Site(
        folder=tmp_path,
        authority=authority,
        control_plane=caller(tmp_path, "control-plane", authority),
        personalisation=personalise(tmp_path, authority),
        data=tmp_path / "data",
    )


@pytest.fixture
def agent(site: Site) -> Iterator[Agent]:
    with running(site.personalisation, site.data) as started:
        yield started


@pytest.fixture(autouse=True)
def closed_glasses() -> Iterator[None]:
    """A database that a test leaves open keeps three files: hundreds of tests, and the process has none left."""
    yield
    while Glass.made:
        Glass.made.pop().access.close()
