"""Every request that changes something, with how to make it and the entry that it leaves.

A route and verb that the portal takes and that is in neither table fails tests/completeness/test_routes.py.
"""

from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from audit.context import Actor
from portal.models import RouteGrant
from protocol.notes import COSIGNATURE_V1, new_key
from protocol.persons import Purpose
from provisioning.models import Operation, Runtime
from tenants.models import MemberKey
from tenants.services import connector_forbid, key_register
from tests.completeness import approver_cases, tenant_access_cases, ticket_cases
from tests.completeness.case import Case, Do
from tests.portal import test_rule_1 as rule_1
from tests.portal.conftest import TESTER, Kind, State, World, device_of, make_operation
from tests.portal.test_key_sign_in import answer, ask
from tests.portal.test_members import second, send, signed
from tests.portal.test_secrets_api import URL as SECRETS
from tests.portal.test_secrets_api import body as sealed
from tests.protocol.people import entry

WITNESS_KEY = str(new_key("w.example.org", COSIGNATURE_V1)[1])
ACME = "acme.portal.localhost"


def post(url: str, /, **form: str) -> Do:
    """A form."""
    return lambda world, client: client.post(
        url, {name: value.format(w=world) for name, value in form.items()}
    )


def api(method: str, path: str, given: Any = None) -> Do:
    """A call of the API, for the tenant."""
    return lambda world, client: send(client, path, given, method)


def reachable(world: World) -> None:
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(agent_address="192.0.2.2:8443")


def running(world: World) -> None:
    make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)


def cancel(world: World, client: Client) -> Any:
    operation = Operation.objects.get(state=State.RUNNING)
    return client.post(f"/admin/provisioning/operation/{operation.pk}/cancel/")


def some_permissions() -> list[str]:
    """Two of them: their ids are others after each flush of the tables."""
    return [str(pk) for pk in Permission.objects.order_by("pk").values_list("pk", flat=True)[:2]]


def with_permissions(world: World, client: Client) -> Any:
    """A form that changes groups, permissions and flags at once."""
    form = {
        "username": "stranger",
        "is_active": "on",
        "is_staff": "on",
        "groups": str(Group.objects.get().pk),
    }
    form |= {
        "user_permissions": some_permissions()[0],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    }
    return client.post(f"/admin/auth/user/{world.people['stranger'].pk}/change/", form)


def group_permissions(world: World, client: Client) -> Any:
    group = Group.objects.get()
    return client.post(
        f"/admin/auth/group/{group.pk}/change/", {"name": group.name, "permissions": some_permissions()}
    )


def inline(world: World, client: Client, **row: str) -> Any:
    """The memberships under a tenant's form."""
    first = {"tenant": str(world.mine.tenant.pk), **row}
    form = {"name": world.mine.tenant.name, "price_cents": str(world.mine.tenant.price_cents)}
    form |= {"memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": str(int("id" in row))}
    form |= {f"memberships-0-{name}": value for name, value in first.items()}
    return client.post(f"/admin/tenants/tenant/{world.mine.tenant.pk}/change/", form)


def inline_row(world: World, **more: str) -> dict[str, str]:
    kept = world.mine.membership
    return {"id": str(kept.pk), "user": str(kept.user_id), "role": str(kept.role), **more}


def add_plan(world: World, client: Client, **more: str) -> Any:
    plan = world.mine.tenant.plan
    names = [field.name for field in plan._meta.fields if field.name not in {"id", "slug", "name"}]
    form = {name: str(getattr(plan, name)) for name in names if getattr(plan, name) is not None}
    return client.post("/admin/tenants/plan/add/", {**form, "slug": "new", "name": "New", **more})


def change_plan(world: World, client: Client) -> Any:
    plan = world.mine.tenant.plan
    names = [field.name for field in plan._meta.fields if field.name != "id"]
    form = {name: str(getattr(plan, name)) for name in names if getattr(plan, name) is not None}
    return client.post(f"/admin/tenants/plan/{plan.pk}/change/", {**form, "name": "Renamed"})


def add_tenant(world: World, client: Client) -> Any:
    form = {"name": "New", "slug": "new", "plan": str(world.mine.tenant.plan_id), "price_cents": "9000"}
    form |= {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    return client.post("/admin/tenants/tenant/add/", form)


def without_machine(world: World) -> None:
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        phase="deleted", host=None, reserved=False, volume_key=None
    )


def spare_key(world: World) -> MemberKey:
    """A key that no keyring names."""
    return key_register(
        actor=Actor.of(world.mine.membership.user),
        tenant=world.mine.tenant,
        kind="device",
        public_key=device_of("spare").key.public_key,
        name="Spare",
    )


def accept_keyring(world: World, client: Client) -> Any:
    fresh = device_of("spare").key
    document = second(world, entry(fresh, name="Spare"))
    return send(client, "keyring/", signed(world, document, Purpose.KEYRING))


def accept_consents(world: World, client: Client) -> Any:
    document = {"version": 2, "tenant_id": str(world.mine.tenant.pk), "agents": False, "always_on": False}
    return send(client, "consents/", signed(world, document, Purpose.CONSENT))


def register_key(world: World, client: Client) -> Any:
    given = {"kind": "device", "name": "Laptop", "public_key": device_of("laptop").key.public_key.hex()}
    return send(client, "keys/", given)


def forget_key(world: World, client: Client) -> Any:
    return send(client, f"keys/{device_of('spare').key.fingerprint}/", None, "delete")


def request_operation(world: World, client: Client) -> Any:
    url = f"/api/v1/runtimes/{world.mine.runtime.pk}/operations/"
    return client.post(url, {"kind": "stop"}, content_type="application/json")


def put_secret(world: World, client: Client) -> Any:
    return client.put(f"{SECRETS}API_TOKEN/", sealed(), content_type="application/json")


def sign_in_by_key(world: World, client: Client) -> Any:
    return answer(client, ask(client), device_of("owner-of-acme"))


def sign_in(world: World, client: Client) -> Any:
    return rule_1.sign_in(client)


def with_ticket(world: World) -> None:
    """As the portal's page leaves it."""
    RouteGrant.objects.create(
        tenant=world.mine.tenant,
        user=world.people["owner"],
        session_key="any",
        secret_sha256=sha256(b"ticket").hexdigest(),
        expires_at=timezone.now() + timedelta(seconds=30),
    )


def enter(world: World, client: Client) -> Any:
    """The end of the way from the portal's page to the machine's origin."""
    return Client(raise_request_exception=False).get(
        "/.portal/enter", {"ticket": "ticket"}, headers={"Host": ACME}
    )


def forbidden(world: World) -> None:
    connector_forbid(actor=TESTER, tenant=world.mine.tenant, connector="github")


CHANGES: dict[tuple[str, str], list[Case]] = {
    **approver_cases.CHANGES,
    **ticket_cases.CHANGES,
    **tenant_access_cases.CHANGES,
    ("sign-in", "post"): [Case(sign_in, "session.began", "anonymous")],
    ("sign-out", "post"): [Case(post("/sign-out/"), "session.ended", "owner")],
    ("tenant-operation", "post"): [Case(rule_1.stop_machine, "operation.requested", "owner")],
    ("tenant-access", "post"): [Case(rule_1.close_access, "access.closed", "owner")],
    ("tenant-open", "post"): [Case(post("/t/acme/open/"), "route.opened", "owner", reachable)],
    ("tenant-connector-switch", "post"): [
        Case(rule_1.forbid_connector_on_the_page, "connector.forbidden"),
        Case(post("/t/acme/connectors/switch/", disable="github"), "connector.disabled", "owner"),
    ],
    ("api-runtime-operations", "post"): [Case(request_operation, "operation.requested", "owner")],
    ("api-tenant-enter", "post"): [Case(api("post", "enter/", {}), "route.opened", "owner", reachable)],
    ("api-connector", "patch"): [
        Case(api("patch", "connectors/github/", {"enabled": False}), "connector.disabled", "owner")
    ],
    ("api-consents", "post"): [Case(accept_consents, "consent.accepted", "owner")],
    ("api-keyring", "post"): [Case(accept_keyring, "keyring.accepted", "owner", spare_key)],
    ("api-keys", "post"): [Case(register_key, "key.registered", "owner")],
    ("api-key", "delete"): [Case(forget_key, "key.removed", "owner", spare_key)],
    ("api-secret", "put"): [Case(put_secret, "secret.put", "owner")],
    ("api-secret", "delete"): [
        Case(api("delete", "secrets/GITHUB_TOKEN/"), "secret.revoked", "owner"),
    ],
    ("api-sign-in", "post"): [Case(sign_in_by_key, "session.began", "anonymous")],
    ("route-enter", "get"): [Case(enter, "route.entered", "owner", with_ticket)],
    ("admin:logout", "post"): [Case(post("/admin/logout/"), "session.ended")],
    ("admin:password_change", "post"): [Case(rule_1.change_own_password, "user.password_changed")],
    ("admin:auth_user_add", "post"): [Case(rule_1.add_person, "user.added")],
    ("admin:auth_user_change", "post"): [
        Case(rule_1.change_person, "user.changed"),
        Case(with_permissions, "user.changed"),
    ],
    ("admin:auth_user_password_change", "post"): [Case(rule_1.change_persons_password, "user.changed")],
    ("admin:auth_user_delete", "post"): [Case(rule_1.delete_person, "user.deleted")],
    ("admin:auth_group_add", "post"): [Case(rule_1.add_group, "group.added")],
    ("admin:auth_group_change", "post"): [
        Case(rule_1.change_group, "group.changed"),
        Case(group_permissions, "group.changed"),
    ],
    ("admin:auth_group_delete", "post"): [Case(rule_1.delete_group, "group.deleted")],
    ("admin:audit_witness_add", "post"): [
        Case(
            post("/admin/audit/witness/add/", url="https://w.example.org/", vkey=WITNESS_KEY),
            "witness.registered",
        )
    ],
    ("admin:axes_accessattempt_delete", "post"): [Case(rule_1.unlock, "accessattempt.deleted")],
    ("admin:provisioning_operation_cancel", "post"): [
        Case(cancel, "operation.cancel_requested", before=running)
    ],
    ("admin:provisioning_runtime_add", "post"): [
        Case(
            post("/admin/provisioning/runtime/add/", tenant="{w.mine.tenant.pk}"),
            "operation.requested",
            before=without_machine,
        )
    ],
    ("admin:provisioning_runtime_plan", "post"): [Case(rule_1.change_plan, "tenant.plan_changed")],
    ("admin:tenants_plan_add", "post"): [Case(add_plan, "plan.created")],
    ("admin:tenants_plan_change", "post"): [Case(change_plan, "plan.changed")],
    ("admin:tenants_tenant_add", "post"): [Case(add_tenant, "tenant.created")],
    ("admin:tenants_tenant_change", "post"): [
        Case(rule_1.change_tenant, "tenant.changed"),
        Case(lambda w, c: inline(w, c, user=str(w.people["stranger"].pk), role="member"), "membership.added"),
        Case(lambda w, c: inline(w, c, **inline_row(w, role="member")), "membership.changed"),
        Case(lambda w, c: inline(w, c, **inline_row(w, DELETE="on")), "membership.removed"),
    ],
    ("admin:tenants_tenantconnector_add", "post"): [
        Case(rule_1.allow_connector, "connector.allowed", before=forbidden)
    ],
}
"""Route and verb, each with the changes that can be made by it."""

THE_RECORD = "writes an entry and nothing else; tests/portal/test_record.py and test_record_proofs.py"
UNCHANGING: dict[tuple[str, str], str] = {
    **approver_cases.UNCHANGING,
    **tenant_access_cases.UNCHANGING,
    ("admin:audit_entry_export", "post"): THE_RECORD,
    ("admin:audit_entry_personal", "post"): THE_RECORD,
    ("tenant-record-export", "post"): THE_RECORD,
    ("tenant-record-checkpoint", "post"): THE_RECORD,
    ("api-record-receipts", "post"): THE_RECORD,
    ("api-record-checkpoint", "post"): THE_RECORD,
    ("admin:axes_accessattempt_change", "post"): "every field of its form is read-only",
    ("sign-in", "put"): "the same form by another verb",
    ("api-key-options", "post"): "puts a challenge into the caller's own session",
    ("api-sign-in-challenge", "post"): "the same",
    ("admin:index", "post"): "shows a page, whatever the verb",
    ("admin:app_list", "post"): "shows a page, whatever the verb",
    ("admin:login", "post"): "leads to the portal's own sign-in page",
    ("admin:provisioning_operation_steps", "post"): "shows a part of a page, whatever the verb",
}
"""What is taken and changes nothing, each with its reason."""

ALWAYS_UNCHANGING = {
    "_history": "shows a page, whatever the verb",
    "_changelist": "changes by its actions only, which test_actions.py walks one by one",
}
"""The same by the end of a route's name."""
