"""Steps about connector secrets: deliver them, and have the guest change the key that they are sealed to."""

from provisioning import connector_secrets
from provisioning.models import Operation
from provisioning.runtime_client import AgentRefused, AgentUnreachable
from provisioning.steps.boot import client_of
from provisioning.steps.context import Context, StepFailed

ALONE = frozenset({Operation.Kind.DELIVER, Operation.Kind.RESEAL})
"""Kinds that are about nothing else, and so fail with it."""


def deliver(context: Context) -> None:
    """Deliver what the guest lacks. What it refuses is shown; a machine starts all the same."""
    runtime = context.runtime
    try:
        done = connector_secrets.confirm(runtime, client_of(context, runtime), context.lease.fenced)
    except (AgentUnreachable, AgentRefused) as error:
        told = _words(error)
        if context.operation.kind in ALONE:
            raise StepFailed("not_delivered", told, retryable=not _too_old(error)) from None
        context.progress(f"Later: {told}")
    else:
        context.progress(str(done))


def rotate(context: Context) -> None:
    """Make a new sealing key in the guest, unless it still has two; then only the rest is left to do."""
    client = client_of(context, context.runtime)
    try:
        vault = connector_secrets.Vault.ask(client)
        if vault.previous is None:
            client.rotate_sealing_key(vault.current_id)
    except (AgentUnreachable, AgentRefused) as error:
        raise StepFailed("not_rotated", _words(error), retryable=not _too_old(error)) from None


def _too_old(error: Exception) -> bool:
    return isinstance(error, AgentRefused) and error.status in {404, 405}


def _words(error: Exception) -> str:
    if _too_old(error):
        return "The machine's system is too old to keep secrets. Rebuild it."
    return f"The guest did not take it: {error}"
