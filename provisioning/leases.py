"""A worker's hold on an operation: an owner, a time limit and a fencing number."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from provisioning.models import Operation


class LeaseLost(Exception):
    """Somebody else holds the operation now, or it ended. Stop at once and write nothing."""


@dataclass(frozen=True)
class Lease:
    """What :func:`provisioning.machine.claim` gives."""

    operation_id: uuid.UUID
    owner: uuid.UUID
    fence: int

    def renew(self) -> None:
        """Extend the lease.

        Raises:
            LeaseLost: the fencing number has moved on.
        """
        renewed = Operation.objects.filter(
            pk=self.operation_id, lease_owner=self.owner, fence=self.fence, state__in=Operation.ACTIVE
        ).update(lease_until=Now() + timedelta(seconds=settings.LEASE_SECONDS))
        if not renewed:
            raise LeaseLost

    @contextmanager
    def fenced(self) -> Iterator[Operation]:
        """A transaction that holds the operation's row and commits only under this lease.

        Raises:
            LeaseLost: the fencing number has moved on.
        """
        with transaction.atomic():
            operation = (
                Operation.objects.select_for_update(of=("self",))
                .select_related("runtime")
                .filter(pk=self.operation_id, lease_owner=self.owner, fence=self.fence)
                .first()
            )
            if operation is None or not operation.active:
                raise LeaseLost
            yield operation
