"""One world for a run; keepers come and go in it."""

from collections.abc import Callable, Iterator

import pytest

from tests.egress.world import KeeperProcess, World
from tests.egress.world import world as make_world


@pytest.fixture(scope="session")
def whole_world() -> Iterator[World]:
    with make_world() as made:
        yield made


@pytest.fixture
def world(whole_world: World) -> World:
    """The world, with its names as they are at the beginning and nothing arrived."""
    whole_world.reset_names()
    whole_world.outside.arrivals.clear()
    whole_world.outside.asked.clear()
    return whole_world


@pytest.fixture
def make_keeper(world: World) -> Iterator[Callable[..., KeeperProcess]]:
    made: list[KeeperProcess] = []

    def make(**environment: str) -> KeeperProcess:
        made.append(KeeperProcess.fresh(world, **environment))
        return made[-1]

    yield make
    for each in made:
        each.stop()
