"""Certificates do not lapse while their holders run: the guests' daily ones, and the control plane's own."""

import logging
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning.driver import DriverError
from provisioning.enrolment import EnrolmentFailed, renew
from provisioning.fleet_keys import fleet_key, serial
from provisioning.models import FleetKey, Operation, Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient

log = logging.getLogger(__name__)
RENEW_BEFORE = timedelta(hours=12)
"""Half a certificate's life: many tries remain before it lapses."""


def renew_certificates() -> int:
    """Renew ready guests' certificates past half their life or of an old CA; tells how many were.

    One guest that does not answer keeps no other from being renewed; it is tried again at the next turn.
    """
    due = (
        Runtime.objects.filter(
            ~Q(certificate_issuer=serial(fleet_key(FleetKey.Use.CA)))
            | Q(certificate_expires_at__lt=timezone.now() + RENEW_BEFORE),
            phase=Runtime.Phase.READY,
        )
        .exclude(operations__state__in=Operation.ACTIVE)
        .select_related("tenant", "host", "image")
    )
    return sum(_renew(runtime) for runtime in due)


def _renew(runtime: Runtime) -> bool:
    try:
        issued = renew(RuntimeClient.dial(runtime), runtime)
    except (AgentUnreachable, AgentRefused, EnrolmentFailed, DriverError) as error:
        log.warning("%s: certificate not renewed: %s", runtime, error)
        return False
    with transaction.atomic():
        # Only if nobody has enrolled it anew meanwhile.
        changed = Runtime.objects.filter(pk=runtime.pk, certificate_serial=runtime.certificate_serial).update(
            certificate_serial=issued.serial,
            certificate_expires_at=issued.expires_at,
            certificate_issuer=issued.issuer,
        )
        record(
            action="runtime.certificate_renewed",
            actor=SYSTEM,
            tenant_id=runtime.tenant_id,
            target=("runtime", runtime.pk),
            data={"serial": issued.serial},
        )
    return bool(changed)
