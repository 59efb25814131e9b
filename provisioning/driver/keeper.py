"""``python -m provisioning.driver.keeper``: keep libvirt's simulated driver's state while this runs.

libvirtd forgets it with the last connection. Prints ``ready`` and ends on SIGTERM or SIGINT. If libvirtd
restarts, the state is lost all the same and the keeper connects anew.
"""

import signal
import sys
import threading

from provisioning.driver.connection import Connection, open_connection
from provisioning.driver.simulated import TEST_URI
from provisioning.driver.types import DriverError

_LOOK_SECONDS = 1.0


def main() -> int:
    """Hold a connection until told to end."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    connection: Connection | None = None
    while not ended.is_set():
        connection = _held(connection)
        ended.wait(_LOOK_SECONDS)
    if connection is not None:
        connection.close()
    return 0


def _held(connection: Connection | None) -> Connection | None:
    if connection is not None and connection.raw.isAlive():
        return connection
    try:
        fresh = open_connection(TEST_URI)
    except DriverError as error:
        print(error.message, file=sys.stderr, flush=True)  # noqa: T201
        return None
    print("ready", flush=True)  # noqa: T201
    return fresh


if __name__ == "__main__":
    sys.exit(main())
