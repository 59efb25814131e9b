"""Staff pages of hosts, images, runtimes and operations. No state is edited here: actions call services."""

from provisioning.admin.egress import EgressRecordAdmin
from provisioning.admin.hosts import GuestImageAdmin, HostAdmin
from provisioning.admin.operations import OperationAdmin
from provisioning.admin.runtimes import RuntimeAdmin
from provisioning.drift.admin import DriftFindingAdmin

__all__ = [
    "DriftFindingAdmin",
    "EgressRecordAdmin",
    "GuestImageAdmin",
    "HostAdmin",
    "OperationAdmin",
    "RuntimeAdmin",
]
