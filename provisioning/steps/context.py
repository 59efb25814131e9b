"""What a step works with: the lease, the runtime, its host's driver, and how to wait or fail."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from django.db import transaction

from provisioning.driver import LibvirtDriver, connect
from provisioning.leases import Lease
from provisioning.models import Operation, Runtime, Step
from provisioning.specs import host_spec


class Wait(Exception):
    """Nothing is wrong, but the step cannot go on yet. The operation goes back to the queue."""

    def __init__(self, reason: str, seconds: float = 5.0) -> None:
        super().__init__(reason)
        self.reason, self.seconds = reason, seconds


class StepFailed(Exception):
    """A step cannot succeed; ``message`` is shown to people and says what to change."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.retryable = code, message, retryable


class Context:
    """One claimed operation on one runtime. The driver is opened when a step first needs it."""

    def __init__(self, lease: Lease, stack: ExitStack) -> None:
        self.lease = lease
        self._stack = stack
        self._driver: LibvirtDriver | None = None
        self._step: Step | None = None

    @classmethod
    @contextmanager
    def opened(cls, lease: Lease) -> Iterator[Self]:
        """A context whose driver is closed at the end."""
        with ExitStack() as stack:
            yield cls(lease, stack)

    def begin(self, step: Step) -> None:
        """Remember which step is running, for :meth:`progress`."""
        self._step = step

    @property
    def runtime(self) -> Runtime:
        """The runtime as the database has it now."""
        return Runtime.objects.select_related("host", "image", "tenant").get(
            operations__pk=self.lease.operation_id
        )

    @property
    def operation(self) -> Operation:
        """The operation as the database has it now."""
        return Operation.objects.get(pk=self.lease.operation_id)

    @property
    def driver(self) -> LibvirtDriver:
        """The host's driver. Checks the lease first, so that a worker that lost it touches nothing more.

        Raises:
            LeaseLost: somebody else has the operation.
            StepFailed: the runtime has no host.
            DriverError: the host cannot be reached.
        """
        self.lease.renew()
        if self._driver is None:
            host = self.runtime.host
            if host is None:
                raise StepFailed("no_host", "The runtime has no host.")
            self._driver = self._stack.enter_context(connect(host_spec(host)))
        return self._driver

    @contextmanager
    def changing(self) -> Iterator[Runtime]:
        """A fenced transaction that holds the runtime's row; what the block sets on it is saved."""
        with self.lease.fenced() as operation:
            runtime = (
                Runtime.objects.select_for_update(of=("self",))
                .select_related("host", "image", "tenant")
                .get(pk=operation.runtime_id)
            )
            yield runtime
            runtime.save()

    def progress(self, detail: str) -> None:
        """Show people how the step is going."""
        if self._step is not None:
            with transaction.atomic():
                Step.objects.filter(pk=self._step.pk).update(detail=detail[:300])

    @property
    def attempts(self) -> int:
        """How often the running step was begun, undoing included."""
        return self._step.attempts if self._step is not None else 0

    @property
    def step_started(self) -> float:
        """When the running step first began (seconds since the epoch)."""
        if self._step is None or self._step.started_at is None:
            raise StepFailed("internal", "No step is running.")
        return self._step.started_at.timestamp()
