"""HTTP clients that keep their connections from one call to the next."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import httpx

from provisioning.deadlines import Sockets


class KeptClient(httpx.Client):
    """One that knows its sockets, so that a call on a connection that an earlier one opened has an end."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.sockets = Sockets()


class ClientPool:
    """A few kept clients, each with its own connections; the least recent is closed when there are too many.

    One per runtime and address: an address is given out again, and a connection belongs to whom it was
    opened to. One per process, since a forked child must not write into its parent's connections.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: OrderedDict[Hashable, KeptClient] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: Hashable, make: Callable[[], KeptClient]) -> KeptClient:
        """The client of that name; made if there is none."""
        with self._lock:
            client = self._clients.pop(name, None) or make()
            self._clients[name] = client
            if len(self._clients) > self._limit:
                # Not closed by force: another thread may be using it. Its connections end by themselves.
                self._clients.popitem(last=False)
            return client
