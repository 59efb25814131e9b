"""The staff's pages: forms and actions go through services; state is shown, never edited."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.messages import get_messages

from audit.models import Entry
from provisioning.models import GuestImage, Host, Operation, Runtime
from tenants.models import Membership, Plan, Tenant
from tests.audit.opened import opened
from tests.portal.conftest import Kind, Phase, State, World, make_operation
from tests.portal.tickets import without_machine

pytestmark = pytest.mark.django_db
RUNTIMES = "/admin/provisioning/runtime/"
REASON = "The customer asked for it."
NO_MEMBERS = {f"memberships-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}


def actions() -> "list[str]":
    """Of the record, without sign-ins."""
    entries = Entry.objects.exclude(action__startswith="session.")
    return list(entries.order_by("pk").values_list("action", flat=True))


def words(response: Any) -> str:
    """What a person would be told."""
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def tenant_form(its_plan: Plan, **more: object) -> dict[str, object]:
    return {"name": "Birch", "slug": "birch", "plan": its_plan.pk, "price_cents": 5000, **NO_MEMBERS, **more}


def test_a_tenant_is_added_through_the_service(world: World, plan: Plan) -> None:
    """The row, its floor and the entry."""
    response = world.client("operator").post("/admin/tenants/tenant/add/", tenant_form(plan))
    assert response.status_code == 302
    tenant = Tenant.objects.get(slug="birch")
    assert tenant.cost_floor_cents == plan.cost_floor_cents
    entry = Entry.objects.get(action="tenant.created", tenant_id=tenant.pk)
    assert entry.actor_id == str(world.people["operator"].pk)
    said = opened(entry)
    assert (said["slug"], said["name"], said["actor"]) == ("birch", tenant.name, "operator")
    assert "birch" not in entry.event.lower()


def test_a_tenant_is_added_with_its_owner_in_one_form(world: World, plan: Plan) -> None:
    """Memberships go through their service as well."""
    stranger = world.people["stranger"]
    members = {
        **NO_MEMBERS,
        "memberships-TOTAL_FORMS": "1",
        "memberships-0-user": stranger.pk,
        "memberships-0-role": "owner",
    }
    world.client("operator").post("/admin/tenants/tenant/add/", tenant_form(plan, **members))
    assert Membership.objects.get(tenant__slug="birch").user == stranger
    assert actions()[-2:] == ["tenant.created", "membership.added"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"price_cents": 4899}, "Below the cost floor: 4900 cents a month or more."),
        ({"price_cents": -1}, "greater than or equal to 0"),
        ({"price_cents": "1" * 40}, "less than or equal to"),
        ({"slug": "Birch!"}, "Use 1 to 32 small letters"),
        ({"slug": "acme"}, "already exists"),
        ({"slug": "admin"}, "reserved"),
        ({"name": ""}, "This field is required."),
        ({"name": "a\x00b"}, "Null characters are not allowed."),
        ({"plan": "999"}, "Select a valid choice."),
    ],
)
def test_a_bad_tenant_form_keeps_what_was_typed(
    world: World, plan: Plan, given: dict[str, object], told: str
) -> None:
    """The message stands beside its field, the other fields keep their values, nothing is written."""
    before = actions()
    response = world.client("operator").post("/admin/tenants/tenant/add/", tenant_form(plan, **given))
    assert response.status_code == 200
    page = response.content.decode()
    assert told in page
    assert 'value="birch"' in page or "slug" in given
    assert actions() == before
    assert not Tenant.objects.filter(name="Birch").exists()


def test_the_pilots_cap_is_told_in_the_form(world: World, plan: Plan, settings: Any) -> None:
    """A full pilot: the form comes back with the reason."""
    settings.PILOT_TENANT_CAP = 2
    response = world.client("operator").post("/admin/tenants/tenant/add/", tenant_form(plan))
    assert response.status_code == 200
    assert "The pilot takes at most 2 tenants." in response.content.decode()


def test_a_tenant_is_changed_through_the_service(world: World) -> None:
    """Name and price change with an entry; slug and plan do not."""
    tenant = world.mine.tenant
    members = {**NO_MEMBERS, "name": "Acme Ltd", "slug": "stolen", "price_cents": 6000}
    response = world.client("operator").post(f"/admin/tenants/tenant/{tenant.pk}/change/", members)
    assert response.status_code == 302
    tenant.refresh_from_db()
    assert (tenant.name, tenant.slug, tenant.price_cents) == ("Acme Ltd", "acme", 6000)
    assert actions()[-1] == "tenant.changed"


def test_a_price_below_the_floor_is_refused_on_change(world: World) -> None:
    """Rule 9, at the form's field."""
    url = f"/admin/tenants/tenant/{world.mine.tenant.pk}/change/"
    response = world.client("operator").post(url, {**NO_MEMBERS, "name": "Acme", "price_cents": 1})
    assert response.status_code == 200
    assert "Below the cost floor: 4900" in response.content.decode()
    world.mine.tenant.refresh_from_db()
    assert world.mine.tenant.price_cents == 5000


def test_staff_who_are_mere_members_change_nothing(world: World) -> None:
    """Seeing a tenant as its member is not operating it, even with the model's permission."""
    half = world.people["half staff"]
    half.user_permissions.add(*_permissions("change_tenant"))
    Membership.objects.create(tenant=world.other.tenant, user=half, role="member")
    form = {**NO_MEMBERS, "name": "Mine now", "price_cents": 5000}
    client = world.client("half staff")
    assert client.post(f"/admin/tenants/tenant/{world.other.tenant.pk}/change/", form).status_code == 403
    assert client.post(f"/admin/tenants/tenant/{world.mine.tenant.pk}/change/", form).status_code in {
        200,
        302,
    }
    world.other.tenant.refresh_from_db()
    assert world.other.tenant.name == "Zebra"


def test_a_runtime_is_created_through_the_service(world: World) -> None:
    """Choosing the tenant is all; the answer leads to the operation's page."""
    without_machine(world.other.runtime)
    response = world.client("operator").post(f"{RUNTIMES}add/", {"tenant": world.other.tenant.pk})
    operation = Operation.objects.get(kind="create", runtime__tenant=world.other.tenant)
    assert response["Location"] == f"/admin/provisioning/operation/{operation.pk}/change/"
    assert {"runtime.registered", "operation.requested"} <= set(actions())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (None, "Acme has a runtime already."),
        ("image", "No guest image is registered."),
        ("host", "No host is enabled."),
    ],
)
def test_a_refused_creation_says_why(world: World, spoil: str | None, told: str) -> None:
    """Nothing is written, and the reason is shown."""
    if spoil is not None:
        without_machine(world.mine.runtime)
    if spoil == "image":
        GuestImage.objects.update(retired=True)
    if spoil == "host":
        Host.objects.update(enabled=False)
    before, rows = actions(), Runtime.objects.count()
    response = world.client("operator").post(f"{RUNTIMES}add/", {"tenant": world.mine.tenant.pk})
    assert response.status_code == 200
    assert told in response.content.decode()
    assert (actions(), Runtime.objects.count()) == (before, rows)


def ask(world: World, kind: str, role: str = "operator", **more: object) -> Any:
    data = {"action": f"request_{kind}", "_selected_action": [str(world.mine.runtime.pk)], **more}
    return world.client(role).post(RUNTIMES, data)


@pytest.mark.parametrize("kind", ["rebuild", "delete", "force_delete"])
def test_destructive_actions_ask_for_a_reason(world: World, kind: str) -> None:
    """First the question, then again for one that is too short, then the request with the words that were typed."""
    question = ask(world, kind)
    assert question.status_code == 200
    assert "This affects:" in question.content.decode()
    again = ask(world, kind, reason="  because  ")
    assert "at least 10 characters" in again.content.decode()
    assert "because" in again.content.decode()
    assert not Operation.objects.filter(kind=kind).exists()
    done = ask(world, kind, reason=REASON)
    assert done.status_code == 302
    operation = Operation.objects.get(kind=kind)
    assert operation.reason == REASON
    assert f"/admin/provisioning/operation/{operation.pk}/change/" in words(done)
    entry = Entry.objects.get(action="operation.requested")
    assert opened(entry)["reason"] == REASON
    assert REASON not in entry.event


@pytest.mark.parametrize("reason", ["x" * 501, "ten chars\x00 or more", " " * 40])
def test_a_reason_must_be_one(world: World, reason: str) -> None:
    """Too long, not text, or nothing: asked again."""
    assert ask(world, "delete", reason=reason).status_code == 200
    assert not Operation.objects.filter(kind="delete").exists()


def test_harmless_actions_need_no_reason(world: World) -> None:
    """Stop is asked for at once."""
    assert ask(world, "stop").status_code == 302
    assert Operation.objects.get(kind="stop").requested_by == world.people["operator"]


def test_a_refused_action_says_why(world: World) -> None:
    """The service's reason reaches the person."""
    assert "Acme: A runtime that is ready cannot start." in words(ask(world, "start"))


def test_an_action_on_somebody_elses_runtime_finds_nothing(world: World) -> None:
    """Half staff may act on theirs; another's id in the form is not even seen."""
    assert ask(world, "stop", "half staff").status_code == 302
    assert Operation.objects.filter(kind="stop").count() == 1
    other = [str(world.other.runtime.pk)]
    response = ask(world, "delete", "half staff", _selected_action=other, reason=REASON)
    assert "zebra" not in response.content.decode().lower()
    assert not Operation.objects.filter(runtime=world.other.runtime, state=State.QUEUED).exists()


@pytest.mark.parametrize("model", [Runtime, Operation, Host, GuestImage, Entry])
@pytest.mark.parametrize("role", ["operator", "superuser"])
def test_state_is_not_edited_by_hand(world: World, model: Any, role: str) -> None:
    """The change page takes no POST, not even from a superuser; nor are there add and delete pages."""
    row = model.objects.first()
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    client = world.client(role)
    before = list(model.objects.order_by("pk").values_list())
    fields = {f.name: "deleted" for f in model._meta.fields}
    assert client.post(f"{base}{row.pk}/change/", fields).status_code in {403, 405}
    assert client.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    if model is not Runtime:  # its add page asks for a tenant, and for nothing else
        assert client.post(f"{base}add/", fields).status_code == 403
    after = list(model.objects.order_by("pk").values_list())
    # The record has grown by these refusals.
    assert (after[: len(before)] if model is Entry else after) == before
    page = client.get(f"{base}{row.pk}/change/").content.decode()
    assert 'name="_save"' not in page
    assert not re.search(r'<(input|select|textarea)[^>]*name="(phase|power|state|reserved)"', page)


def test_the_add_page_takes_no_state(world: World) -> None:
    """Fields beside the tenant are ignored."""
    without_machine(world.other.runtime)
    forged = {
        "tenant": world.other.tenant.pk,
        "phase": "ready",
        "mac": "00:00:00:00:00:00",
        "memory_mib": 99999,
    }
    world.client("operator").post(f"{RUNTIMES}add/", forged)
    runtime = Runtime.objects.get(tenant=world.other.tenant)
    assert (runtime.phase, runtime.memory_mib) == (Phase.PROVISIONING, 512)
    assert runtime.mac != "00:00:00:00:00:00"


def test_no_list_offers_bulk_deletion(world: World) -> None:
    """``delete_selected`` has no entry in its transaction, so no page offers or takes it."""
    client = world.client("superuser")
    for model in admin.site._registry:
        url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert "delete_selected" not in client.get(url).content.decode(), url
        rows = [str(pk) for pk in model._default_manager.values_list("pk", flat=True)]
        before = len(rows)
        client.post(url, {"action": "delete_selected", "_selected_action": rows, "post": "yes"})
        assert model._default_manager.count() == before, url


def test_the_operations_page_shows_its_steps(world: World) -> None:
    """Every step by its words, which are done, what is waited for and for how long."""
    operation = make_operation(
        world.mine.runtime, Kind.RESTART, State.RUNNING, done=3, wait_reason="No capacity: shelf."
    )
    Operation.objects.filter(pk=operation.pk).update(waiting_since=operation.created_at)
    page = (
        world.client("operator").get(f"/admin/provisioning/operation/{operation.pk}/change/").content.decode()
    )
    assert page.count('<li class="done">') == 3
    assert "Shut the guest down" in page
    assert "No capacity: shelf." in page
    assert re.search(r"So far \d+ s\.", page)
    assert "Cancel this operation" in page


@pytest.mark.parametrize(("kind", "offered"), [("restart", True), ("stop", False), ("delete", False)])
def test_cancel_is_offered_where_it_can_be_done(world: World, kind: str, offered: bool) -> None:
    """No button that can only fail."""
    operation = make_operation(world.mine.runtime, kind, State.RUNNING, done=0)
    page = world.client("operator").get(f"/admin/provisioning/operation/{operation.pk}/change/").content
    assert (b"Cancel this operation" in page) == offered


def test_cancelling(world: World) -> None:
    """POST only; the wish is written with its entry; a second time it is told that it is over or under way."""
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=1)
    url = f"/admin/provisioning/operation/{operation.pk}/cancel/"
    client = world.client("operator")
    assert client.get(url).status_code == 405
    assert client.post(url).status_code == 302
    operation.refresh_from_db()
    assert operation.cancel_requested
    assert actions()[-1] == "operation.cancel_requested"
    Operation.objects.filter(pk=operation.pk).update(state=State.CANCELLED)
    assert "This operation is over." in words(client.post(url))


def test_staff_who_only_see_an_operation_cannot_cancel_it(world: World) -> None:
    """A staff member of a tenant who does not operate it: visible, and refused."""
    Membership.objects.create(tenant=world.other.tenant, user=world.people["half staff"], role="member")
    operation = make_operation(world.other.runtime, Kind.RESTART, State.RUNNING, done=1)
    client = world.client("half staff")
    page = client.get(f"/admin/provisioning/operation/{operation.pk}/change/")
    assert page.status_code == 200
    assert b"Cancel this operation" not in page.content
    assert client.post(f"/admin/provisioning/operation/{operation.pk}/cancel/").status_code == 403


def test_hosts_are_opened_and_drained_with_an_entry(world: World) -> None:
    """The two actions of the host list."""
    host = Host.objects.get()
    client = world.client("operator")
    for action, enabled in [("drain_hosts", False), ("open_hosts", True)]:
        client.post("/admin/provisioning/host/", {"action": action, "_selected_action": [str(host.pk)]})
        host.refresh_from_db()
        assert host.enabled is enabled
    assert actions()[-2:] == ["host.drained", "host.enabled"]


def test_viewers_cannot_drain_or_retire(world: World) -> None:
    """View permission shows the list and offers no action."""
    client = world.client("half staff")
    chosen = {"_selected_action": [str(Host.objects.get().pk)], "action": "drain_hosts"}
    client.post("/admin/provisioning/host/", chosen)
    image = GuestImage.objects.get()
    client.post(
        "/admin/provisioning/guestimage/", {"action": "retire_images", "_selected_action": [str(image.pk)]}
    )
    image.refresh_from_db()
    assert (Host.objects.get().enabled, image.retired) == (True, False)


def test_an_image_is_retired_with_an_entry(world: World) -> None:
    """New runtimes boot from it no more."""
    image = GuestImage.objects.get()
    url = "/admin/provisioning/guestimage/"
    world.client("operator").post(url, {"action": "retire_images", "_selected_action": [str(image.pk)]})
    image.refresh_from_db()
    assert image.retired
    assert actions()[-1] == "image.retired"


def test_plans_are_saved_once_in_the_record(world: World) -> None:
    """Adding one leaves one entry, with its figures."""
    form = {"slug": "big", "name": "Big", "vcpus": 2, "cpu_percent": 100, "memory_mib": 1024, "disk_gib": 5}
    form |= {"processes": 256, "jobs_running": 3, "jobs_waiting": 9}
    form |= {"api_per_minute": 600, "routed_per_minute": 1200, "bandwidth_mbit": "", "iops": ""}
    before = len(actions())
    assert world.client("operator").post("/admin/tenants/plan/add/", form).status_code == 200
    response = world.client("operator").post("/admin/tenants/plan/add/", {**form, "cost_floor_cents": 9900})
    assert response.status_code == 302
    assert actions()[before:] == ["plan.created"]


def test_the_front_page_shows_trouble(world: World) -> None:
    """Failed machines, hosts with a problem, what is under way; and nothing of other people's tenants."""
    Runtime.objects.update(phase=Phase.FAILED)
    Host.objects.update(problem="Connection refused.")
    make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=1, wait_reason="No capacity.")
    page = world.client("operator").get("/admin/").content.decode()
    for expected in ("Acme</a> failed", "Zebra</a> failed", "Connection refused.", "No capacity."):
        assert expected in page
    assert "Zebra" not in world.client("half staff").get("/admin/").content.decode()


def test_the_front_page_says_what_to_do_first(operator: User) -> None:
    """An empty fleet: which command, then which page."""
    from django.test import Client

    client = Client()
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get("/admin/").content.decode()
    assert "No host is registered. Run <code>manage.py host_register</code>." in page
    assert "Add a tenant" in page


def test_hosts_are_shown_to_those_who_may_see_hosts(world: World) -> None:
    """Staff without that permission get no host on the front page, and no hint to register one."""
    half = world.people["half staff"]
    half.user_permissions.remove(*_permissions("view_host"))
    page = world.client("half staff").get("/admin/").content.decode()
    assert "shelf" not in page
    assert "host_register" not in page


def test_the_staffs_own_sign_in_page_leads_on(world: World) -> None:
    """``/admin/login/``: staff go to the front page, strangers to the portal's sign-in page and then there."""
    assert world.client("operator").get("/admin/login/")["Location"] == "/admin/"
    assert world.client("anonymous").get("/admin/login/")["Location"] == "/sign-in/?next=/admin/"
    assert world.client("owner").get("/admin/login/").status_code == 403


def _permissions(*codenames: str) -> Any:
    from django.contrib.auth.models import Permission

    return Permission.objects.filter(codename__in=codenames)
