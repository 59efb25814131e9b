"""Rule 1 for people, groups and sessions: no change without its entry, in the same transaction."""

from collections.abc import Callable
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db.models import F
from django.test import Client

from audit.models import Entry, PersonalDatum
from provisioning.models import Runtime
from tenants.services import connector_forbid
from tests.portal.conftest import TESTER, World

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "correct horse battery"
BETTER = "staple gun and sealing wax"


def add_person(world: World, client: Client) -> Any:
    form = {"username": "new", "usable_password": "true", "password1": BETTER, "password2": BETTER}
    return client.post("/admin/auth/user/add/", form)


def change_person(world: World, client: Client) -> Any:
    person = world.people["stranger"]
    form = {
        "username": "renamed",
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    }
    return client.post(f"/admin/auth/user/{person.pk}/change/", form)


def change_persons_password(world: World, client: Client) -> Any:
    form = {"usable_password": "true", "password1": BETTER, "password2": BETTER, "set-password": "1"}
    return client.post(f"/admin/auth/user/{world.people['stranger'].pk}/password/", form)


def delete_person(world: World, client: Client) -> Any:
    return client.post(f"/admin/auth/user/{world.people['stranger'].pk}/delete/", {"post": "yes"})


def change_own_password(world: World, client: Client) -> Any:
    form = {"old_password": PASSWORD, "new_password1": BETTER, "new_password2": BETTER}
    return client.post("/admin/password_change/", form)


def add_group(world: World, client: Client) -> Any:
    return client.post("/admin/auth/group/add/", {"name": "new"})


def change_group(world: World, client: Client) -> Any:
    return client.post(f"/admin/auth/group/{Group.objects.get().pk}/change/", {"name": "renamed"})


def delete_group(world: World, client: Client) -> Any:
    return client.post(f"/admin/auth/group/{Group.objects.get().pk}/delete/", {"post": "yes"})


def unlock(world: World, client: Client) -> Any:
    attempt = AccessAttempt.objects.get()
    return client.post(f"/admin/axes/accessattempt/{attempt.pk}/delete/", {"post": "yes"})


def stop_machine(world: World, client: Client) -> Any:
    return client.post("/t/acme/operations/", {"kind": "stop"})


def close_access(world: World, client: Client) -> Any:
    return client.post("/t/acme/access/", {"access": "close"})


def change_plan(world: World, client: Client) -> Any:
    plan = world.mine.tenant.plan
    form = {"plan": str(plan.pk), "price_cents": "7000"}
    return client.post(f"/admin/provisioning/runtime/{world.mine.runtime.pk}/plan/", form)


def apply_plan(world: World, client: Client) -> Any:
    type(world.mine.tenant.plan).objects.update(cpu_percent=50)
    form = {"action": "request_resize", "_selected_action": str(world.mine.runtime.pk)}
    return client.post("/admin/provisioning/runtime/", form)


def change_tenant(world: World, client: Client) -> Any:
    form = {
        "name": "N",
        "price_cents": 6000,
        "memberships-TOTAL_FORMS": "0",
        "memberships-INITIAL_FORMS": "0",
    }
    return client.post(f"/admin/tenants/tenant/{world.mine.tenant.pk}/change/", form)


def ask_for_a_tenant_key(world: World, client: Client) -> Any:
    form = {"action": "rotate_keys", "_selected_action": str(world.mine.tenant.pk)}
    return client.post("/admin/tenants/tenant/", form)


def free_of_machines(world: World) -> None:
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        phase="deleted", host=None, reserved=False, volume_key=None
    )


def offboard(world: World, client: Client) -> Any:
    free_of_machines(world)
    form = {"action": "offboard", "_selected_action": str(world.mine.tenant.pk), "reason": "It has ended."}
    return client.post("/admin/tenants/tenant/", form)


def revoke_secret(world: World, client: Client) -> Any:
    form = {"action": "revoke", "_selected_action": str(world.mine.secret.pk)}
    return client.post("/admin/tenants/connectorsecret/", form)


def allow_connector(world: World, client: Client) -> Any:
    form = {"tenant": str(world.mine.tenant.pk), "connector": "github"}
    return client.post("/admin/tenants/tenantconnector/add/", form)


def forbid_connector(world: World, client: Client) -> Any:
    form = {"action": "forbid", "_selected_action": str(world.mine.connector.pk)}
    return client.post("/admin/tenants/tenantconnector/", form)


def forbid_connector_on_the_page(world: World, client: Client) -> Any:
    return client.post("/t/acme/connectors/switch/", {"forbid": "github"})


def quarantine(world: World, client: Client) -> Any:
    form = {"action": "request_quarantine", "_selected_action": str(world.mine.runtime.pk)}
    return client.post("/admin/provisioning/runtime/", {**form, "reason": "It behaves strangely."})


def release(world: World, client: Client) -> Any:
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(phase="quarantined")
    form = {"action": "request_release", "_selected_action": str(world.mine.runtime.pk)}
    return client.post("/admin/provisioning/runtime/", {**form, "reason": "It was looked at."})


def erase_person(world: World, client: Client) -> Any:
    mine = PersonalDatum.objects.filter(subject=f"user:{world.people['member'].pk}")
    form = {"action": "erase", "_selected_action": str(mine[0].pk), "reason": "They asked us to."}
    return client.post("/admin/audit/personaldatum/", form)


CHANGES: list[tuple[Callable[[World, Client], Any], str]] = [
    (add_person, "user.added"),
    (change_person, "user.changed"),
    (change_persons_password, "user.changed"),
    (delete_person, "user.deleted"),
    (change_own_password, "user.password_changed"),
    (add_group, "group.added"),
    (change_group, "group.changed"),
    (delete_group, "group.deleted"),
    (erase_person, "personal.erased"),
    (unlock, "accessattempt.deleted"),
    (stop_machine, "operation.requested"),
    (close_access, "access.closed"),
    (quarantine, "operation.requested"),
    (release, "operation.requested"),
    (change_tenant, "tenant.changed"),
    (change_plan, "tenant.plan_changed"),
    (apply_plan, "operation.requested"),
    (ask_for_a_tenant_key, "tenant_key.rotation_asked"),
    (offboard, "tenant.offboarded"),
    (revoke_secret, "secret.revoked"),
    (allow_connector, "connector.allowed"),
    (forbid_connector, "connector.forbidden"),
    (forbid_connector_on_the_page, "connector.forbidden"),
]


@pytest.fixture
def root(world: World, request: pytest.FixtureRequest) -> Client:
    if request.node.callspec.params["change"] is allow_connector:
        connector_forbid(actor=TESTER, tenant=world.mine.tenant, connector="github")
    AccessAttempt.objects.create(username="x", failures_since_start=3)
    return world.client("superuser")


def everything() -> dict[str, list[tuple[object, ...]]]:
    return {
        model._meta.label: sorted(model._default_manager.values_list(), key=repr)
        for model in apps.get_models()
    }


def break_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of entries cannot be written."""

    def broken(**kwargs: object) -> None:
        raise RuntimeError("the record is broken")

    monkeypatch.setattr(Entry.objects, "create", broken)


@pytest.mark.parametrize(("change", "action"), CHANGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_leaves_an_entry(
    world: World, root: Client, change: Callable[[World, Client], Any], action: str
) -> None:
    """Who did what to which row."""
    assert change(world, root).status_code == 302
    entry = Entry.objects.latest("pk")
    assert (entry.action, entry.actor_id) == (action, str(world.people["superuser"].pk))
    assert BETTER not in entry.event


@pytest.mark.parametrize(("change", "action"), CHANGES, ids=lambda value: getattr(value, "__name__", value))
def test_without_its_entry_nothing_changes(
    world: World,
    root: Client,
    change: Callable[[World, Client], Any],
    action: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record refuses: the answer is an error, and every table is as it was."""
    if change is offboard:
        free_of_machines(world)
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        phase="quarantined" if change is release else F("phase")
    )
    if change is apply_plan:
        type(world.mine.tenant.plan).objects.update(cpu_percent=50)
    before = everything()
    break_record(monkeypatch)
    assert change(world, root).status_code == 500
    assert everything() == before


def sign_in(client: Client, password: str = PASSWORD) -> Any:
    return client.post("/sign-in/", {"username": "stranger", "password": password})


def test_signing_in_and_out_leaves_entries(world: World) -> None:
    """Began and ended, by the person; a refusal by nobody, without the name that was typed."""
    client = world.client("anonymous")
    assert sign_in(client, "wrong").status_code == 200
    assert sign_in(client).status_code == 302
    assert client.post("/sign-out/").status_code == 302
    entries = list(Entry.objects.filter(action__startswith="session.").order_by("pk"))
    pk = str(world.people["stranger"].pk)
    began = entries[-3:]
    assert [(e.action, e.actor_id) for e in began] == [
        ("session.refused", ""),
        ("session.began", pk),
        ("session.ended", pk),
    ]
    assert "stranger" not in began[0].event


def test_without_its_entry_there_is_no_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record refuses: no session row, no cookie, no changed date of the last sign-in."""
    client = world.client("anonymous")
    before = everything()
    break_record(monkeypatch)
    response = sign_in(client)
    assert response.status_code == 500
    assert everything() == before
    assert "__Host-session" not in response.cookies
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("url", ["/sign-out/", "/admin/logout/"])
def test_without_its_entry_a_session_does_not_end(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The same in the other direction: what the record does not know has not happened."""
    client = world.client("operator")
    sessions = Session.objects.count()
    break_record(monkeypatch)
    assert client.post(url).status_code == 500
    assert Session.objects.count() == sessions
    assert client.get("/admin/").status_code == 200


def test_an_entry_names_the_request(world: World) -> None:
    """Every entry of a request carries its id."""
    sign_in(world.client("anonymous"))
    assert Entry.objects.get(
        action="session.began", actor_id=str(User.objects.get(username="stranger").pk)
    ).request_id
