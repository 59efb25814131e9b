"""Every probe, one after the other, over one look at the fleet."""

import logging
from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from provisioning.no_go.fleet import Fleet, see
from provisioning.no_go.probes import PROBES, Probe
from provisioning.no_go.verdicts import EVIDENCE_MAXIMUM, Verdict

log = logging.getLogger(__name__)


def examine(probes: dict[str, Probe] = PROBES, look: Callable[[], Fleet] = see) -> list[Verdict]:
    """The verdicts of ``probes``, in their order. Never raises: what breaks has not passed."""
    try:
        fleet = look()
    except Exception as error:
        log.exception("the fleet could not be looked at")
        told = f"the fleet could not be looked at ({type(error).__name__})"
        return [Verdict(name, False, told, timezone.now()) for name in probes]
    return [_verdict(name, probe, fleet) for name, probe in probes.items()]


def _verdict(name: str, probe: Probe, fleet: Fleet) -> Verdict:
    try:
        with transaction.atomic():  # a query that fails must not take the next probe's with it
            passed, evidence = probe(fleet)
    except Exception as error:
        # The text may hold anything, so only its type is shown.
        log.exception("no-go probe %s broke", name)
        passed, evidence = False, f"the probe broke ({type(error).__name__})"
    return Verdict(name, passed, evidence[:EVIDENCE_MAXIMUM], timezone.now())
