"""Whom of the control plane the guests are told to believe."""

import time

from django.conf import settings

from protocol.enrolment import Trust
from protocol.tokens import public_key
from provisioning.fleet_keys import fleet_key
from provisioning.models import FleetKey


def trust() -> Trust:
    """What every guest should hold now."""
    return Trust(
        ca_certificates=[fleet_key(FleetKey.Use.CA).certificate],
        token_keys=[public_key(settings.TOKEN_KEY).hex()],
        route_keys=[public_key(settings.ROUTE_KEY).hex(), *settings.EXTRA_ROUTE_KEYS],
        revoked_serials=[],
        issued_at=int(time.time()),
    )
