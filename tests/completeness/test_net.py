"""The net itself must be able to catch something: each way around a service is tried once."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction

from audit.context import command
from audit.services import record
from tests import net as nets
from tests.net import Net, spread

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def net() -> Iterator[Net]:
    """In this file the net that hangs under every test must not judge: what it would catch is made on purpose."""
    with spread() as one:
        yield one


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file's functions pass for the program's."""
    monkeypatch.setattr(nets, "_origin", lambda: ("portal/somewhere.py:careless", 1))


def group() -> Group:
    return Group.objects.get_or_create(name="careless")[0]


def saved() -> None:
    Group(name="another").save()


def in_bulk() -> None:
    Group.objects.filter(pk=group().pk).update(name="careless")


def many_to_many() -> None:
    group().permissions.add(Permission.objects.all()[0])


def deleted() -> None:
    group().delete()


def in_sql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE auth_group SET name = name")


WAYS: list[Callable[[], None]] = [saved, in_bulk, many_to_many, deleted, in_sql]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_change_without_an_entry_is_caught(ours: None, way: Callable[[], None]) -> None:
    """In a transaction of its own, and outside any."""
    group()
    with spread() as one:
        way()
    assert one.violations
    assert "auth_group" in one.violations[0]
    group()
    with spread() as one, transaction.atomic():
        way() if way is not saved else Group(name="third").save()
    assert one.violations


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_with_an_entry_beside_it_nothing_is(ours: None, way: Callable[[], None]) -> None:
    """Before or after the change, and in an inner block as well."""
    with spread() as one, transaction.atomic():
        group()
        way()
        with transaction.atomic():
            record(action="a.b", actor=command("test"))
    assert not one.violations


def test_an_entry_that_was_rolled_back_is_none(ours: None) -> None:
    """The inner block took its entry with it; the change outside it stays."""
    with spread() as one, transaction.atomic():
        saved()
        with suppress(ZeroDivisionError), transaction.atomic():
            record(action="a.b", actor=command("test"))
            _ = 1 // 0
    assert one.violations


def test_a_change_that_was_rolled_back_needs_no_entry(ours: None) -> None:
    """Nothing happened."""
    with spread() as one, suppress(ZeroDivisionError), transaction.atomic():
        saved()
        _ = 1 // 0
    assert not one.violations


def test_an_entry_of_another_transaction_does_not_count(ours: None) -> None:
    """Both must stand or fall together."""
    with spread() as one:
        with transaction.atomic():
            record(action="a.b", actor=command("test"))
        with transaction.atomic():
            saved()
    assert one.violations


def test_telemetry_needs_none(ours: None) -> None:
    """A column of the list alone; with another beside it, it does."""
    user = User.objects.create_user("x")
    with spread() as one:
        User.objects.filter(pk=user.pk).update(last_login=None)
    assert not one.violations
    with spread() as one:
        User.objects.filter(pk=user.pk).update(last_login=None, is_staff=True)
    assert one.violations


def test_what_a_test_prepares_is_its_own(net: Net) -> None:
    """A write whose nearest function is a test's is no business of the program's."""
    saved()
    assert not net.violations
