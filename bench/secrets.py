"""How long a connector secret takes from the owner's sealing to the guest's confirmation."""

import time
from secrets import token_hex
from statistics import median

from django.contrib.auth.models import User

from audit.context import Actor, command
from portal.secrets import SealingKey, accept
from protocol.sealed import seal
from provisioning import machine
from provisioning.models import Operation, Runtime
from provisioning.services import operation_request
from tenants.models import ConnectorSecret, Membership
from tenants.services import membership_add

ACTOR = command("bench")
ROUNDS = 5
NAME = "BENCH_TOKEN"


def measure(runtime: Runtime) -> dict[str, float]:
    """Seconds to seal and keep one, and to the guest's confirmation. The worker is this process: no broker.

    Raises:
        RuntimeError: a delivery failed; the text is the operation's own.
    """
    owner = User.objects.create_user(f"bench-{token_hex(4)}")
    membership_add(actor=ACTOR, tenant=runtime.tenant, user=owner, role=Membership.Role.OWNER)
    rounds = [_one(runtime, Actor.of(owner)) for _ in range(ROUNDS)]
    return {
        "secret: sealed → kept": median(kept for kept, _ in rounds),
        "secret: sealed → delivered": median(delivered for _, delivered in rounds),
    }


def _one(runtime: Runtime, owner: Actor) -> tuple[float, float]:
    key = SealingKey.of(Runtime.objects.get(pk=runtime.pk))
    began = time.perf_counter()
    sealed = seal(key.public_key, token_hex(20).encode())
    github = ConnectorSecret.Connector.GITHUB
    secret = accept(
        actor=owner, tenant=runtime.tenant, name=NAME, connector=github, sealing_key=key.id, sealed=sealed
    )
    kept = time.perf_counter() - began
    operation = operation_request(actor=ACTOR, runtime_id=runtime.pk, kind=Operation.Kind.DELIVER)
    machine.run(operation.pk)
    delivered = time.perf_counter() - began
    secret.refresh_from_db()
    if secret.state != ConnectorSecret.State.HELD:
        operation.refresh_from_db()
        raise RuntimeError(operation.error_message or f"the secret is {secret.state}")
    return kept, delivered
