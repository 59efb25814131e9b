"""Room on hosts: chosen and reserved in the transaction that asks for it, so that nothing is promised twice.

Whoever reserves holds the hosts' row locks, taken in one order, and counts what the rows hold: stopped
machines, and machines on hosts that do not answer, hold as much as any other.
"""

from django.db import transaction

from provisioning.models import Host, Runtime
from provisioning.quotas import ROOM, Size, set_spare
from provisioning.selectors import lacking, reserved_on, short_of


def locked_hosts() -> list[Host]:
    """Every host, its row held until the end of the transaction."""
    return list(Host.objects.select_for_update().order_by("pk"))


def roomiest(runtime: Runtime, hosts: list[Host]) -> Host | None:
    """The host, of those that are enabled and have room for ``runtime``, with the most memory free."""
    held = {host.pk: reserved_on(host) for host in hosts if host.enabled}
    roomy = [host for host in hosts if host.enabled and not lacking(host, runtime, held[host.pk])]
    # One that answers before one that does not; the emptiest, so that a busy one slows nobody more.
    return max(
        roomy,
        key=lambda host: (not host.problem, host.memory_mib - held[host.pk]["memory_mib"]),
        default=None,
    )


def reserve(runtime: Runtime) -> None:
    """Give ``runtime`` its place where there is one now; unsaved. Without one a worker waits for it.

    Raises:
        TransactionManagementError: outside a transaction, where no lock would hold.
    """
    _in_transaction()
    runtime.reserved = True
    if runtime.host is None:
        runtime.host = roomiest(runtime, locked_hosts())


def reserve_size(runtime: Runtime, other: Size) -> list[str]:
    """Hold room for ``other`` besides the present size, until it is clear which one stays; unsaved.

    Returns:
        What the host lacks for it, in words; then nothing was reserved.
    """
    _in_transaction()
    if runtime.host_id is None:
        return []
    host = Host.objects.select_for_update().get(pk=runtime.host_id)
    more = {name: max(0, (other[name] or 0) - getattr(runtime, name)) for name in ROOM}
    if short := short_of(host, {name: need for name, need in more.items() if need}, reserved_on(host)):
        return [f"{host.name} {words}" for words in short]
    set_spare(runtime, other)
    return []


def _in_transaction() -> None:
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("Room is reserved in a transaction only.")
