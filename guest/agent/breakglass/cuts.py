"""What is under way under each ticket, so that its end reaches it at once and not at its next chunk."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Kill = Callable[[], None]
"""Ends something. Called in the event loop; must neither wait nor fail."""


class Cuts:
    """The register of requests that are being served, and of what they have started."""

    def __init__(self) -> None:
        self._held: dict[str, dict[object, Kill]] = defaultdict(dict)

    @contextmanager
    def held(self, ticket: str, kill: Kill) -> Iterator[None]:
        """Have ``kill`` called if the ticket ends before the block does."""
        key = object()
        self._held[ticket][key] = kill
        try:
            yield
        finally:
            self._held[ticket].pop(key, None)
            if not self._held[ticket]:
                del self._held[ticket]

    def cut(self, ticket: str) -> int:
        """End all that is under way under the ticket; tells how much it was."""
        kills = list(self._held.get(ticket, {}).values())
        for kill in kills:
            kill()
        return len(kills)


def cutting(transport: asyncio.BaseTransport | None) -> Kill:
    """How this request is cut: its connection ends without another byte, and its handler is cancelled.

    A request that itself ends the access gets its answer.
    """
    task = asyncio.current_task()

    def kill() -> None:
        if task is asyncio.current_task():
            return
        if isinstance(transport, asyncio.Transport):
            transport.abort()
        if task is not None:
            task.cancel()

    return kill
