"""What rooms above this one tell a guest each time it starts: a registry, since nothing here imports them.

A guest that has started may be another than the one that stopped: rebuilt, restored, or set back. Names are
kept, not functions: every process registers them, and only a worker may load what calls a guest.
"""

from typing import Any

from django.utils.module_loading import import_string

from provisioning.models import Runtime

_TELLERS: list[str] = []
_READERS: list[str] = []


def at_start(teller: str) -> None:
    """Have the function of this dotted name called once the keyring and consents are delivered.

    It takes the runtime and a :class:`~provisioning.runtime_client.RuntimeClient`, and may raise
    AgentUnreachable or AgentRefused: then the step is tried again. In the order of registration.
    """
    if teller not in _TELLERS:
        _TELLERS.append(teller)


def tell(runtime: Runtime, client: Any) -> None:
    """Call them all. ``client``: a RuntimeClient, whose module this one must not load."""
    for teller in _TELLERS:
        import_string(teller)(runtime, client)


def at_status(reader: str) -> None:
    """Have the function of this dotted name called with each status that a guest is asked for now and then.

    It takes the runtime, the status and the client, and may raise as those of :func:`at_start`.
    """
    if reader not in _READERS:
        _READERS.append(reader)


def read(runtime: Runtime, status: Any, client: Any) -> None:
    """Call them all."""
    for reader in _READERS:
        import_string(reader)(runtime, status, client)
