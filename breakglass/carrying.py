"""Carries ends to guests without being told to: by the rows alone, by a clock and threads of its own.

The urgent worker has it beside what it does by message. Messages need the broker, and share their threads
with what waits for guests; an end of access must wait for neither. Nothing is done twice at once
(:mod:`breakglass.pacing`).
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections, connections

from breakglass import grants
from breakglass.services.endings import tickets_expire
from provisioning.runtime_client import AgentRefused, AgentUnreachable

log = logging.getLogger(__name__)
THREADS = 8
"""Guests at once; one that does not answer keeps a thread for provisioning.runtime_client.URGENT_PATIENCE."""


class Carrier:
    """A round every ``PORTAL_BREAK_GLASS_SECONDS``, until it is stopped."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(THREADS, "ends")
        self._under_way: dict[UUID, Future[None]] = {}
        self._clock = threading.Thread(target=self._run, name="carrier", daemon=True)

    def start(self) -> None:
        """Begin; the first round is at once."""
        self._clock.start()

    def stop(self) -> None:
        """No further round, and nothing new; what a guest is being told goes on."""
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def settle(self) -> None:
        """Wait for what is under way, after :meth:`stop`."""
        self._threads.shutdown(wait=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.round()
            self._stop.wait(settings.BREAK_GLASS_SECONDS)
        connections.close_all()

    def round(self) -> None:
        """Tell all guests what they have not confirmed, close what is over by the clock, and tell of that."""
        for part in (self._carry, tickets_expire, self._carry):
            close_old_connections()
            _alone(part)

    def _carry(self) -> None:
        self._under_way = {pk: each for pk, each in self._under_way.items() if not each.done()}
        for ticket_id in grants.unended().values_list("pk", flat=True):
            if ticket_id not in self._under_way and not self._stop.is_set():
                self._under_way[ticket_id] = self._threads.submit(_end, ticket_id)


def _alone(part: Callable[[], object]) -> None:
    """What one part trips over stops neither the others nor the next round."""
    try:
        part()
    except Exception:
        log.exception("a part of the round of ends failed")
        connections.close_all()


def _end(ticket_id: UUID) -> None:
    try:
        grants.apply(ticket_id, repeated=True)
    except (AgentUnreachable, AgentRefused) as error:
        log.warning("ticket %s: its end is not carried to its guest: %s", ticket_id, error)
    except Exception:
        log.exception("ticket %s: its end is not carried to its guest", ticket_id)
    finally:
        connections.close_all()
