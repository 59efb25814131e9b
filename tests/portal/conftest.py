"""Two tenants with machines and a past, and one person of every sort who might look at them."""

import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from guardian.shortcuts import assign_perm
from nacl.public import PrivateKey

from audit import log
from audit.context import Actor, command
from audit.disputes import dispute, dispute_acknowledge
from audit.models import Dispute, Witness, WitnessRefusal
from audit.personal import forget
from audit.witnesses import refusal_acknowledge, refused, witness_register
from breakglass.models import ApproverSetVersion, Mismatch, Ticket
from breakglass.services.mismatches import mismatch_acknowledge
from protocol.checkpoints import Checkpoint, signed
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, vkey_of
from protocol.persons import Purpose
from protocol.sealed import key_id, seal
from provisioning.models import DriftFinding, EgressRecord, GuestImage, Host, Operation, Runtime, Step
from provisioning.sequences import SEQUENCES
from tenants.models import (
    ConnectorSecret,
    ConsentVersion,
    KeyringVersion,
    MemberKey,
    Membership,
    Plan,
    Tenant,
    TenantConnector,
    TenantKey,
)
from tenants.services import (
    connector_allow,
    connector_enable,
    consent_accept,
    key_register,
    keyring_accept,
    membership_add,
    secret_put,
    tenant_key_ensure,
)
from tests.conftest import (
    empty_tables,
    new_host,
    new_image,
    new_image_files,
    new_operator,
    new_plan,
    new_tenant,
    new_user,
)
from tests.net import net
from tests.portal import tickets
from tests.protocol.people import Device, entry, keyring

__all__ = ["net"]

TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase
SEALING_KEY = bytes(PrivateKey(bytes(range(32))).public_key)
SEALED = seal(SEALING_KEY, b"a token of the tenant's")
SECRETS = {
    "volume_key": b"\x01volume-key-in-its-wrapping",
    "enrolment_secret": b"\x01enrolment-in-its-wrapping",
}


@dataclass
class Place:
    """A tenant with all that belongs to it."""

    tenant: Tenant
    runtime: Runtime
    operation: Operation
    membership: Membership
    key: MemberKey
    keyring: KeyringVersion
    consents: ConsentVersion
    tenant_key: TenantKey
    secret: ConnectorSecret
    connector: TenantConnector
    drift: DriftFinding
    egress_record: EgressRecord
    witness: Witness
    refusal: WitnessRefusal
    dispute: Dispute
    ticket: Ticket
    mismatch: Mismatch


@dataclass
class World:
    """``mine`` is the tenant of its people; ``other`` is somebody else's."""

    mine: Place
    other: Place
    people: dict[str, User] = field(default_factory=dict)

    def client(self, role: str, *, csrf: bool = False) -> Client:
        """A browser in which ``role`` is signed in; nobody is, for ``anonymous``."""
        client = Client(enforce_csrf_checks=csrf, raise_request_exception=False)
        if role != "anonymous":
            client.force_login(self.people[role], backend="django.contrib.auth.backends.ModelBackend")
        return client


def make_operation(
    runtime: Runtime, kind: str, state: str, done: int | None = None, **more: object
) -> Operation:
    """An operation as a worker would have left it after ``done`` steps (all of them if not given)."""
    ended = state not in Operation.ACTIVE
    operation = Operation.objects.create(
        runtime=runtime,
        kind=kind,
        state=state,
        started_at=timezone.now() - timedelta(seconds=60),
        finished_at=timezone.now() if ended else None,
        **more,
    )
    plan = SEQUENCES[kind]
    done = len(plan) if done is None else done
    for index, planned in enumerate(plan):
        began = timezone.now() - timedelta(seconds=50 - index)
        Step.objects.create(
            operation=operation,
            index=index,
            name=planned.name,
            state="done" if index < done else "running" if index == done and not ended else "pending",
            started_at=began if index <= done else None,
            finished_at=began + timedelta(seconds=0.8) if index < done else None,
        )
    return operation


def make_dispute(tenant: Tenant) -> Dispute:
    """A history that the log does not continue, which a member has shown and somebody has looked into."""
    key = log.vkey()
    other = Checkpoint(key.name, 7, sha256(tenant.slug.encode()).digest())
    shown = signed(other, settings.LOG_KEY, key.name)
    dispute(actor=TESTER, tenant_id=tenant.pk, kept=shown, here=9)
    found = Dispute.objects.get(tenant_id=tenant.pk)
    dispute_acknowledge(actor=TESTER, dispute=found, reason="A rehearsal of a restore.")
    return found


def make_ticket(tenant: Tenant, make_user: Callable[..., User]) -> Ticket:
    """A ticket that waits, of an operator of this tenant alone; there are two approvers for all tenants."""
    if not ApproverSetVersion.objects.exists():
        tickets.approvers(make_user("ann", is_staff=True), make_user("ben", is_staff=True))
    tickets.named(tenant)
    # Staff see each other's names, so a name is none of a tenant's.
    requester = make_user(f"requester-{Ticket.objects.count()}", is_staff=True)
    assign_perm("tenants.operate_tenant", requester, tenant)
    return tickets.ask(requester, tenant)


def make_mismatch(runtime: Runtime, user: User) -> Mismatch:
    """A use of the machine that nobody meant, which somebody has looked into."""
    found = Mismatch.objects.create(runtime=runtime, kind=Mismatch.Kind.NO_INTENT, token="unknown", seq=1)
    mismatch_acknowledge(actor=Actor.of(user), mismatch=found, reason="A rehearsal of an alarm.")
    return found


def device_of(name: str) -> Device:
    """A device key that belongs to this name alone."""
    return Device(sha256(name.encode()).digest())


def sign_in_owner(membership: Membership) -> tuple[MemberKey, KeyringVersion, ConsentVersion]:
    """The owner's device key, a keyring that names it, and a consent to agents: registered and signed."""
    actor, tenant = Actor.of(membership.user), membership.tenant
    device = device_of(membership.user.username)
    key = key_register(
        actor=actor, tenant=tenant, kind="device", public_key=device.key.public_key, name="Terminal"
    )
    first = keyring(str(tenant.pk), entry(device.key, name="The owner's terminal"))
    consents = {"version": 1, "tenant_id": str(tenant.pk), "agents": True, "always_on": False}
    given: Any = {"actor": actor, "tenant": tenant}
    return (
        key,
        keyring_accept(**given, document=first, signature=device.sign(Purpose.KEYRING, first)),
        consent_accept(**given, document=consents, signature=device.sign(Purpose.CONSENT, consents)),
    )


def new_place(plan: Plan, image: GuestImage, pool: Path, slug: str, phase: str = Phase.READY) -> Place:
    """A tenant, and at least one of each thing that can be a tenant's."""
    tenant = new_tenant(plan, slug)
    membership = membership_add(
        actor=TESTER, tenant=tenant, user=new_user(f"owner-of-{slug}"), role=Membership.Role.OWNER
    )
    signed = sign_in_owner(membership)
    host = Host.objects.first() or new_host(pool, name="shelf")
    runtime = Runtime.objects.create(
        tenant=tenant,
        host=host,
        image=image,
        phase=phase,
        power="running" if phase == Phase.READY else "off",
        reserved=True,
        vcpus=1,
        cpu_percent=100,
        memory_mib=512,
        disk_gib=1,
        network_index=Runtime.objects.count(),
        mac=f"52:54:00:00:00:{Runtime.objects.count():02x}",
        first_ready_at=timezone.now(),
        sealing_public_key=SEALING_KEY.hex(),
        **SECRETS,
    )
    operation = make_operation(runtime, Kind.CREATE, State.SUCCEEDED)
    key = tenant_key_ensure(tenant.pk)
    secret = secret_put(
        actor=Actor.of(membership.user),
        tenant=tenant,
        name="GITHUB_TOKEN",
        connector="github",
        sealing_key=key_id(SEALING_KEY),
        sealed=SEALED,
    )
    connector_allow(actor=TESTER, tenant=tenant, connector="github")
    connector = connector_enable(actor=Actor.of(membership.user), tenant=tenant, connector="github")
    drift = DriftFinding.objects.create(
        host=host,
        runtime=runtime,
        code="limits",
        severity="mend",
        detail=f"of {slug}",
        found_at=timezone.now(),
        seen_at=timezone.now(),
    )
    record = EgressRecord.objects.create(
        tenant=tenant,
        runtime=runtime,
        at=timezone.now(),
        host=f"{slug}s.example.com",
        port=443,
        verdict="refused",
        reason="name",
    )
    vkey = vkey_of(runtime_dns_name(str(runtime.pk)), sha256(slug.encode()).digest(), COSIGNATURE_V1)
    witness = witness_register(actor=TESTER, vkey=str(vkey), target=str(runtime.pk), tenant_id=tenant.pk)
    refused(witness, None, "proof", 7)
    refusal = WitnessRefusal.objects.get(witness=witness)
    refusal_acknowledge(actor=TESTER, refusal=refusal, reason="A rehearsal of a restore.")
    return Place(
        tenant,
        runtime,
        operation,
        membership,
        *signed,
        key,
        secret,
        connector,
        drift,
        record,
        witness,
        refusal,
        make_dispute(tenant),
        make_ticket(tenant, new_user),
        make_mismatch(runtime, membership.user),
    )


@pytest.fixture
def make_place(plan: Plan, image: GuestImage, tmp_path: Path) -> Callable[..., Place]:
    return partial(new_place, plan, image, tmp_path / "pool")


def new_world(make_place: Callable[..., Place], operator: User) -> World:
    world = World(mine=make_place("acme"), other=make_place("zebra"))
    member = new_user("member")
    membership_add(actor=TESTER, tenant=world.mine.tenant, user=member, role=Membership.Role.MEMBER)
    half = new_user("half", is_staff=True)
    half.user_permissions.set(
        Permission.objects.filter(
            codename__startswith="view_",
            content_type__app_label__in=["tenants", "provisioning", "audit", "breakglass"],
        )
    )
    assign_perm("tenants.operate_tenant", half, world.mine.tenant)
    world.people = {
        "stranger": new_user("stranger"),
        "member": member,
        "owner": world.mine.membership.user,
        "half staff": half,
        "operator": operator,
        "superuser": new_user("root", is_staff=True, is_superuser=True),
        "approver": User.objects.get(username="ann"),
        "requester": world.mine.ticket.requester,
    }
    return world


@pytest.fixture
def world(make_place: Callable[..., Place], operator: User) -> World:
    return new_world(make_place, operator)


@pytest.fixture(scope="module")
def standing(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One world in the database for all tests of a file, whose changes are rolled back. Emptied after them."""
    folder = tmp_path_factory.mktemp("standing")
    try:
        with django_db_blocker.unblock():
            forget()
            image = new_image(new_image_files(folder))
            made = new_world(partial(new_place, new_plan(), image, folder / "pool"), new_operator())
        yield made
    finally:
        with django_db_blocker.unblock():
            empty_tables()


@pytest.fixture
def standing_world(standing: World, db: None) -> World:
    """For files of very many tests: building a world takes longer than most of what is asked of it.

    A file that takes it has no test that commits.
    """
    return copy.deepcopy(standing)


NOWHERE = uuid.UUID("00000000-0000-4000-8000-000000000000")
"""No row has this id."""
