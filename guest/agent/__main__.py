"""``python -m guest.agent --personalisation FILE --data DIR [--listen ADDRESS:PORT] [--boot-report FILE]``"""

import asyncio
import logging
import sqlite3
import sys

from guest.agent.config import ConfigError, config_from_arguments
from guest.agent.files import FileDamaged
from guest.agent.server import serve


def main() -> int:
    """Run the agent; returns the exit status."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="portal-agent: %(message)s")
    # These two repeat what a caller sent, and asyncio tells of every refused handshake.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        asyncio.run(serve(config_from_arguments()))
    except (ConfigError, FileDamaged) as error:
        logging.getLogger(__name__).error("cannot start: %s", error)
        return 1
    except sqlite3.Error as error:
        logging.getLogger(__name__).error("cannot start: the token ledger: %s", type(error).__name__)
        return 1
    except OSError as error:
        logging.getLogger(__name__).error("cannot start: %s", error.strerror)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
