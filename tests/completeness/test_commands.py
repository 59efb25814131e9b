"""Rule 1 for every management command: ours, Django's and the libraries'."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.management.commands.changepassword import Command as StockPassword
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as StockMigrate
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from audit.models import Entry
from portal.management.commands import migrate
from provisioning.models import FleetKey
from tenants.models import Tenant
from tests.completeness.broken import RecordBroken, broken_record, everything
from tests.net import Net
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db
BETTER = "staple gun and sealing wax"
ENDED = timezone.now() - timedelta(days=1)


@dataclass(frozen=True)
class Order:
    """A command: its arguments, an entry that it leaves, and what stands before."""

    action: str
    given: tuple[str, ...] = ()
    options: dict[str, Any] | None = None
    before: Callable[[World], Any] = lambda world: None
    changes: bool = True
    """Whether a row changes in this case, or only the entry is written."""


def failed(world: World) -> None:
    AccessAttempt.objects.create(username="x", ip_address="192.0.2.1", failures_since_start=3)


def ended(world: World) -> None:
    Session.objects.create(session_key="old", session_data="", expire_date=ENDED)


def known_stranger(world: World) -> None:
    """Somebody failed to sign in, from an address."""
    world.client("anonymous").post("/sign-in/", {"username": "x", "password": "wrong"})


def without_acme(world: World) -> None:
    """Its name is free again."""
    Tenant.objects.filter(pk=world.mine.tenant.pk).update(slug="acme-before")


ORDERS: dict[str, Order] = {
    "createsuperuser": Order(
        "user.created", options={"interactive": False, "username": "second", "email": ""}
    ),
    "changepassword": Order("user.password_changed", ("stranger",)),
    "webhook": Order(
        "webhook.added", ("add",), options={"name": "Pager", "url": "https://pager.example/hook"}
    ),
    "demo_people": Order("user.created"),
    "demo_tenant": Order("tenant.created", before=without_acme),
    "tenant_keys_rotate": Order("tenant_key.destroyed", ("acme",)),
    "keys_rotate": Order("fleet_key.made", ("token",)),
    "proxy_identity": Order("fleet_key.made", ("{folder}",)),
    "fleet_stop": Order("operation.requested", options={"seconds": 0}),
    "personal_erase": Order(
        "personal.erased",
        options={"subject": "anonymous", "reason": BETTER},
        before=known_stranger,
        changes=False,
    ),
    "clearsessions": Order("command.ran", before=ended, changes=False),
    "loaddata": Order("command.ran", ("{fixture}",)),
    "axes_reset": Order("command.ran", before=failed, changes=False),
    "axes_reset_ip": Order("command.ran", ("192.0.2.1",), before=failed, changes=False),
    "axes_reset_username": Order("command.ran", ("x",), before=failed, changes=False),
    "axes_reset_ip_username": Order("command.ran", ("192.0.2.1", "x"), before=failed, changes=False),
    "axes_reset_logs": Order("command.ran", changes=False),
    "axes_reset_failure_logs": Order("command.ran", changes=False),
    "clean_orphan_obj_perms": Order("command.ran", changes=False),
    "remove_stale_contenttypes": Order("command.ran", options={"interactive": False}, changes=False),
    "createcachetable": Order("command.ran", changes=False),
    "shell": Order("command.began", options={"command": "pass"}, changes=False),
    "dbshell": Order("command.began", changes=False),
    "dumpdata": Order("command.began", ("auth.group",), changes=False),
}
"""Commands that change something, or show everything."""

ELSEWHERE = {
    "migrate": "below: it has a transaction for each migration",
    "flush": "below: the triggers refuse it",
    "host_register": "host_register() of the services; probes a real engine",
    "image_register": "image_register() of the services, tests/provisioning/test_image_check.py",
    "drift": "the same check as the task's (test_tasks.py), and tests/drift under the net",
    "sequencer": "the record's own tree: tests/audit/test_sequencer.py and its neighbours",
    "audit_archive": "below audit/, with files: tests/audit/test_exports.py and its neighbours",
    "audit_export_tiles": "writes files after its entry: tests/audit/test_exports.py",
    "audit_roles": "rights in the database, on PostgreSQL only: tests/audit/test_roles.py",
    "operations_drain": "machine.run(), as the task does (test_tasks.py)",
}
"""Commands whose changes are walked elsewhere."""

READS = {
    *("fleet_audit", "keys_status", "no_go", "axes_list_attempts", "check", "diffsettings", "findstatic"),
    *("audit_status", "audit_verify", "log_key"),
    *("inspectdb", "showmigrations", "sqlflush", "sqlmigrate", "sqlsequencereset", "sendtestemail"),
}
"""Commands that show something and change nothing."""

FILES_ONLY = {
    *("collectstatic", "compilemessages", "makemessages", "makemigrations", "optimizemigration"),
    *("squashmigrations", "startapp", "startproject", "generateschema"),
}
"""Commands for programmers, which write files."""

NOT_OURS = {"runserver", "test", "testserver"}
"""Servers for programmers; the last two make a database of their own."""


def test_every_command_is_in_a_table() -> None:
    """A new command, or one that a library brings along, must say here what entry it leaves."""
    known = set(ORDERS) | set(ELSEWHERE) | READS | FILES_ONLY | NOT_OURS
    found = set(get_commands())
    assert found - known == set(), "say in tests/completeness/test_commands.py what these change"
    assert known - found == set(), "these are gone"


@pytest.mark.parametrize("name", ORDERS)
def test_a_command_and_its_entry_are_one(
    world: World, net: Net, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a record that takes nothing, nothing changes; with one that does, both stand in one transaction."""
    monkeypatch.setattr(StockPassword, "_get_pass", lambda *given: BETTER)
    monkeypatch.setattr(connection.client, "runshell", lambda parameters: None)
    fixture = tmp_path / "fixture.json"
    fixture.write_text(json.dumps([{"model": "auth.group", "fields": {"name": "loaded"}}]))
    order = ORDERS[name]
    given = [each.format(folder=tmp_path, fixture=fixture) for each in order.given]
    order.before(world)
    if name == "proxy_identity":
        FleetKey.objects.all().delete()
    before, sessions = everything(), Session.objects.count()
    net.units.clear()
    with broken_record(), pytest.raises(RecordBroken):
        call_command(name, *given, **(order.options or {}))
    assert (everything(), Session.objects.count()) == (before, sessions)
    assert not any(unit.writes for unit in net.units)

    count = Entry.objects.count()
    call_command(name, *given, **(order.options or {}))
    fresh = list(Entry.objects.order_by("pk")[count:])
    assert order.action in [entry.action for entry in fresh]
    assert {(entry.actor_kind, entry.actor_id) for entry in fresh} <= {
        ("command", name),
        ("system", "worker"),
    }
    assert not any(BETTER in entry.event for entry in fresh)
    assert not order.changes or any(unit.changes and unit.actions for unit in net.units)


def test_migrations_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was applied and what was taken back; nothing if there was nothing to do."""
    states = [{("a", "0001"): 1}, {("a", "0002"): 1, ("b", "0001"): 1}]
    monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda self: states.pop(0))
    monkeypatch.setattr(StockMigrate, "handle", lambda *args, **given: None)
    migrate.Command().handle(database="default", run_syncdb=False)
    event = json.loads(Entry.objects.latest("pk").event)
    assert event["action"] == "command.ran"
    assert event["data"] == {"applied": ["a.0002", "b.0001"], "undone": ["a.0001"]}
    states[:] = [{}, {}]
    count = Entry.objects.count()
    migrate.Command().handle(database="default", run_syncdb=False)
    assert Entry.objects.count() == count


@pytest.mark.django_db(transaction=True)
def test_the_database_cannot_be_emptied(world: World) -> None:
    """`flush` meets the triggers, and everything is still there."""
    before = everything()
    with pytest.raises(CommandError):
        call_command("flush", interactive=False)
    assert everything() == before


def test_demo_people_say_what_they_gave(world: World) -> None:
    """The group's permissions are on record when they change, and only then."""
    call_command("demo_people")
    count = Entry.objects.filter(action="group.permissions_changed").count()
    call_command("demo_people")
    assert Entry.objects.filter(action="group.permissions_changed").count() == count
    Group.objects.get().permissions.clear()
    call_command("demo_people")
    event = json.loads(Entry.objects.filter(action="group.permissions_changed").latest("pk").event)
    assert "tenants.operate_tenant" in event["data"]["permissions"]["added"]
