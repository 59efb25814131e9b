"""Keeps a lease alive while a step takes its time."""

import logging
import threading
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import DatabaseError, connection

from provisioning.leases import Lease, LeaseLost

log = logging.getLogger(__name__)


class Heartbeat:
    """Renews ``lease`` three times per lease length in a thread with its own database connection."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        try:
            while not self._stop.wait(settings.LEASE_SECONDS / 3):
                try:
                    self._lease.renew()
                except LeaseLost:
                    return
                except DatabaseError as error:
                    # The database may come back before the lease ends; the fence protects us if not.
                    log.warning("heartbeat missed: %s", type(error).__name__)
                    connection.close()
        finally:
            connection.close()
