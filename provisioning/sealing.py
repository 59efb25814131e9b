"""The guest's sealing key, as the portal shows it to those who seal."""

from audit.context import SYSTEM
from audit.services import record
from provisioning.models import Runtime


def follow(runtime: Runtime, stated: str) -> None:
    """Take over the public key that the guest states, in the transaction that holds its row.

    A change is an audit leaf: whoever compares the leaves with what the guest tells them sees a portal that
    hands out a key of its own.
    """
    if stated == runtime.sealing_public_key:
        return
    record(
        action="runtime.sealing_key_changed",
        actor=SYSTEM,
        tenant_id=runtime.tenant_id,
        target=("runtime", runtime.pk),
        data={"before": runtime.sealing_public_key, "sealing_public_key": stated},
    )
    runtime.sealing_public_key = stated
    if runtime.stated:
        runtime.stated = {**runtime.stated, "sealing_public_key": stated}
    runtime.save(update_fields=["sealing_public_key", "stated"])
