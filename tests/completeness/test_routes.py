"""Rule 1 for every URL: what changes something leaves its entry in the same transaction, or changes nothing."""

import re
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.test import Client

from audit.models import Entry
from tests.completeness.broken import broken_record, everything
from tests.completeness.case import Case
from tests.completeness.cases import ALWAYS_UNCHANGING, CHANGES, UNCHANGING, reachable
from tests.completeness.walking import METHODS, origin_routes, taken
from tests.net import Net
from tests.portal.conftest import World
from tests.portal.routes import routes

pytestmark = pytest.mark.django_db
NAMED = [(*place, case) for place, cases in CHANGES.items() for case in cases]
each_change = pytest.mark.parametrize(
    ("route", "method", "case"), NAMED, ids=[f"{name} {method} {case.action}" for name, method, case in NAMED]
)
UNWATCHED = ("session.", "accessattempt.")
"""What these entries tell of stands in tables that the net does not watch."""
STAFF = [route for route in routes() if route.path.startswith("/admin/")]


def asker(world: World, case: Case) -> Client:
    """The case's person, with its scene set."""
    AccessAttempt.objects.create(username="x", failures_since_start=3)
    if case.before is not None:
        case.before(world)
    return world.client(case.role)


def test_every_route_that_takes_a_change_is_in_the_table(world: World) -> None:
    """A new route, or a new verb of an old one, must say here what it changes and what entry it leaves."""
    AccessAttempt.objects.create(username="x", failures_since_start=3)
    reachable(world)
    found = {place for place in taken(world) if not place[0].endswith(tuple(ALWAYS_UNCHANGING))}
    known = set(CHANGES) | set(UNCHANGING)
    assert found - known == set(), "say in tests/completeness/cases.py what these change"
    looks = {place for place in CHANGES if place[1] == "get"}
    assert known - looks - found == set(), "nobody can ask for these any more"


def test_every_page_of_a_runtimes_origin_is_in_the_table() -> None:
    """There, looking may change something: a ticket is spent, a request is routed."""
    names = {route.name for route in origin_routes()}
    assert names == {"route-enter", "route-authorize"}, "say in tests/completeness what these change"


@each_change
def test_a_change_and_its_entry_are_one(world: World, net: Net, route: str, method: str, case: Case) -> None:
    """With a record that takes nothing, nothing changes; with one that does, both stand in one transaction."""
    client = asker(world, case)
    before = everything()
    net.units.clear()
    with broken_record():
        assert case.do(world, client).status_code == 500
    assert everything() == before
    assert not any(unit.writes for unit in net.units)

    assert case.do(world, client).status_code in {200, 201, 204, 302}
    newest = Entry.objects.exclude(action="record.viewed").latest("pk")
    assert newest.action == case.action
    if case.role != "anonymous":
        assert newest.actor_id == str(world.people[case.role].pk)
    changed = [unit for unit in net.units if unit.changes or case.action.startswith(UNWATCHED)]
    assert changed, "nothing was changed: the case proves nothing"
    assert all(unit.actions for unit in changed)


def test_the_staffs_pages_change_nothing_by_other_verbs(world: World, net: Net) -> None:
    """Django's forms look at POST only, so the walk need not ask for the others there."""
    AccessAttempt.objects.create(username="x", failures_since_start=3)
    client = world.client("superuser")
    net.units.clear()
    for route in STAFF:
        for method in METHODS[1:]:
            getattr(client, method)(route.url(world.mine), {"name": "x", "post": "yes"})
            if route.name == "admin:logout":
                client = world.client("superuser")
    assert not any(unit.changes for unit in net.units)


def test_a_route_without_a_row_is_seen(world: World, settings: Any) -> None:
    """The walk finds a route that nobody has told it of."""
    settings.ROOT_URLCONF = "tests.completeness.one_more"
    assert ("unheard-of", "post") in taken(world)


def test_the_table_names_only_routes() -> None:
    """No row is left of a route that is gone."""
    names = {route.name for route in [*routes(), *origin_routes()]}
    assert {name for name, _ in [*CHANGES, *UNCHANGING]} <= names
    assert all(re.fullmatch(r"[a-z-]+(:\w+)?", name) for name, _ in CHANGES)
