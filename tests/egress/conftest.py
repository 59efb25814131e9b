"""One world for a run; keepers come and go in it."""

from collections.abc import Callable, Iterator

import pytest

from tests.egress.attacking import ODD
from tests.egress.world import ALICE, API, BOB, EVIL, RAW, SITE, KeeperProcess, World, fetch, wait_for
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
    world.clear_walls()


@pytest.fixture(scope="module")
def standing(whole_world: World) -> Iterator[KeeperProcess]:
    """One keeper for all attacks of a file: Alice may reach GitHub's names, Bob another one."""
    keeper = KeeperProcess.fresh(whole_world)
    keeper.start()
    keeper.obey(ALICE.rules(API, SITE, RAW, *ODD), BOB.rules(EVIL))
    yield keeper
    keeper.stop()
    whole_world.clear_walls()


@pytest.fixture
def attacked(standing: KeeperProcess, world: World) -> KeeperProcess:
    """The same, known to work in both directions before the attack."""
    assert fetch(world, ALICE, API) == b"hello\n"
    wait_for(
        "the positive control's record", lambda: [each.host for each in standing.records()][-1:] == [API]
    )
    world.outside.arrivals.clear()
    return standing


@pytest.fixture
def keeper(make_keeper: Callable[..., KeeperProcess]) -> KeeperProcess:
    """A keeper of the test's own, up and without rules."""
    made = make_keeper()
    made.start()
    return made
