"""Hosts, images, runtimes, and the operations that change them."""

from provisioning.drift.models import DriftFinding, Told
from provisioning.models.egress import EgressCursor, EgressRecord
from provisioning.models.hosts import GuestImage, Host
from provisioning.models.keys import FleetKey
from provisioning.models.operations import Operation, Resize, Step
from provisioning.models.runtimes import Runtime

__all__ = [
    "DriftFinding",
    "EgressCursor",
    "EgressRecord",
    "FleetKey",
    "GuestImage",
    "Host",
    "Operation",
    "Resize",
    "Runtime",
    "Step",
    "Told",
]
