"""A tenant with an owner, a member and a stranger, each with a device key."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import Actor, command
from protocol.persons import Purpose
from tenants.models import ConsentVersion, KeyringVersion, MemberKey, Membership, Tenant
from tenants.services import consent_accept, key_register, keyring_accept, membership_add
from tests.protocol.people import MEMBER, OWNER, STRANGER, Device, entry, keyring

TESTER = command("test")


@dataclass
class House:
    """One tenant; ``people`` by what they are, ``devices`` by the same."""

    tenant: Tenant
    people: dict[str, User]
    devices: dict[str, Device] = field(
        default_factory=lambda: {"owner": OWNER, "member": MEMBER, "stranger": STRANGER}
    )

    def actor(self, who: str = "owner") -> Actor:
        return Actor.of(self.people[who])

    def register(self, who: str = "owner", **given: Any) -> MemberKey:
        defaults = {"kind": "device", "public_key": self.devices[who].key.public_key, "name": f"{who}'s key"}
        return key_register(actor=self.actor(who), tenant=self.tenant, **{**defaults, **given})

    def first(self, **changes: Any) -> Any:
        """A first keyring with the owner alone."""
        return {**keyring(str(self.tenant.pk), entry(OWNER.key)), **changes}

    def next(self, after: KeyringVersion, *members: Any, **changes: Any) -> Any:
        """The keyring that follows ``after``."""
        document = keyring(str(self.tenant.pk), *members, version=after.version + 1, previous=after.hash)
        return {**document, **changes}

    def accept(
        self, document: Any, device: Device = OWNER, who: str = "owner", **changes: Any
    ) -> KeyringVersion:
        signature = {**device.sign(Purpose.KEYRING, document), **changes}
        return keyring_accept(
            actor=self.actor(who), tenant=self.tenant, document=document, signature=signature
        )

    def found(self) -> KeyringVersion:
        """Register the owner's key and accept the first keyring."""
        self.register()
        return self.accept(self.first())

    def agree(self, by: Device = OWNER, who: str = "owner", **changes: Any) -> ConsentVersion:
        document = {"version": 1, "tenant_id": str(self.tenant.pk), "agents": True, "always_on": False}
        document |= changes
        return consent_accept(
            actor=self.actor(who),
            tenant=self.tenant,
            document=document,
            signature=by.sign(Purpose.CONSENT, document),
        )


@pytest.fixture
def house(tenant: Tenant, owner: User, make_user: Callable[..., User]) -> House:
    member = make_user("member")
    membership_add(actor=TESTER, tenant=tenant, user=member, role=Membership.Role.MEMBER)
    return House(tenant, {"owner": owner, "member": member, "stranger": make_user("stranger")})
