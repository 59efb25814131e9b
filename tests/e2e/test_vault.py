"""The vault in a real guest: its kernel, its agent's seccomp filter, its encrypted volume, over restarts."""

import pytest

from provisioning.models import GuestImage, Host, Operation
from provisioning.runtime_client import AgentRefused, RuntimeClient
from tenants.models import Tenant
from tests.e2e.members import Member
from tests.e2e.test_guest import ask
from tests.guest.boxes import CANARY, NAME, boxed
from tests.provisioning.workers import created

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
BOOT_SECONDS = 400.0


def test_secrets_over_restarts(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """Delivered, sealed to a new key, there after a restart, sealed back nowhere, revoked for good."""
    runtime = created(tenant, BOOT_SECONDS)
    portal = RuntimeClient.dial(runtime)
    first = portal.secrets()["sealing"]["current"]
    assert first["public_key"] == runtime.sealing_public_key
    body = boxed(bytes.fromhex(first["public_key"]))
    assert portal.deliver_secret(**body) == {"name": NAME, "version": 1, "state": "held"}
    for number in range(3):
        portal.deliver_secret(**boxed(bytes.fromhex(first["public_key"]), CANARY * 1000, f"LONG_{number}"))
    rotated = portal.rotate_sealing_key(first["id"])
    second = rotated["sealing"]["current"]["id"]

    ask(runtime, Operation.Kind.RESTART)
    portal = RuntimeClient.dial(runtime)
    # Nothing waits for the key before, so the portal's own round has retired it.
    assert portal.secrets() == {**rotated, "sealing": {**rotated["sealing"], "previous": None}}
    assert portal.deliver_secret(**body)["state"] == "held", "the same again"
    assert portal.export_secret(NAME)["key_id"] == second
    assert portal.retire_sealing_key(first["id"])["sealing"]["previous"] is None
    assert portal.revoke_secret(name=NAME, version=2)["state"] == "revoked"

    ask(runtime, Operation.Kind.REBUILD)
    portal = RuntimeClient.dial(runtime)
    told = portal.secrets()
    assert (told["sealing"]["current"]["id"], told["secrets"][0]["state"]) == (second, "revoked")
    with pytest.raises(AgentRefused, match="rolled_back"):
        portal.deliver_secret(**body)
    member = Member.sign_in(runtime, real_host)
    assert member.ask("GET", "/v1/vault").json() == told
