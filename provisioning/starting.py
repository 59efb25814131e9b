"""What rooms above this one tell a guest each time it starts: a registry, since nothing here imports them.

A guest that has started may be another than the one that stopped: rebuilt, restored, or set back.
"""

from collections.abc import Callable

from provisioning.models import Runtime
from provisioning.runtime_client import RuntimeClient

Teller = Callable[[Runtime, RuntimeClient], None]
"""Raises AgentUnreachable or AgentRefused: the guest does not answer; the step is tried again."""
_TELLERS: list[Teller] = []


def at_start(teller: Teller) -> Teller:
    """Have ``teller`` called after the keyring and consents are delivered, in the order of registration."""
    if teller not in _TELLERS:
        _TELLERS.append(teller)
    return teller


def tell(runtime: Runtime, client: RuntimeClient) -> None:
    """Call them all."""
    for teller in _TELLERS:
        teller(runtime, client)
