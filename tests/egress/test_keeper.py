"""The keeper and its Squid, real, in a world of namespaces."""

from collections.abc import Callable

from tests.egress.world import ALICE, API, BOB, KeeperProcess, World, connect, fetch


def test_what_is_allowed_arrives_and_nothing_else(
    world: World, make_keeper: Callable[..., KeeperProcess]
) -> None:
    keeper = make_keeper()
    keeper.start()
    keeper.obey(ALICE.rules(API), BOB.rules())
    assert fetch(world, ALICE, API) == b"hello\n"
    assert connect(world, BOB, f"{API}:443").status == 403
