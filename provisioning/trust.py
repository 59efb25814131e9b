"""Whom of the control plane the guests are told to believe, and telling them when that changes."""

import time
import uuid

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from protocol.enrolment import Trust
from protocol.tokens import public_key
from provisioning.fleet_keys import believed, serial
from provisioning.models import FleetKey, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.selectors import ready_runtime, settled

_CLIENTS = (FleetKey.Use.CLIENT, FleetKey.Use.PROXY)


def trust() -> Trust:
    """What every guest should hold now. The keys in use are always among it."""
    retired = FleetKey.objects.filter(
        use__in=_CLIENTS, state=FleetKey.State.RETIRED, expires_at__gt=timezone.now()
    )
    return Trust(
        ca_certificates=[key.certificate for key in believed(FleetKey.Use.CA)],
        token_keys=[key.public_key for key in believed(FleetKey.Use.TOKEN)],
        route_keys=[public_key(settings.ROUTE_KEY).hex(), *settings.EXTRA_ROUTE_KEYS],
        revoked_serials=sorted(serial(key) for key in retired),
        issued_at=int(time.time()),
    )


def unconfirmed() -> QuerySet[Runtime]:
    """Runtimes that run and whose guest has not confirmed that it believes this."""
    return settled().exclude(trust_seen=trust().hash)


def apply(runtime_id: uuid.UUID) -> None:
    """Tell the guest. One that is not running is told at its next start.

    Raises:
        AgentUnreachable, AgentRefused: the guest does not answer; the sweeper tries again.
        DriverError: its host does not answer.
    """
    runtime = ready_runtime(runtime_id)
    if runtime is not None:
        confirm(runtime, RuntimeClient.dial(runtime), "")


def confirm(runtime: Runtime, client: RuntimeClient, stated: str) -> None:
    """Tell the guest that answers on ``client``, unless it has ``stated`` it, and note what it confirms."""
    wanted = trust()
    if stated != wanted.hash:
        stated = client.deliver_trust(wanted)
    Runtime.objects.filter(pk=runtime.pk).update(trust_seen=stated)
