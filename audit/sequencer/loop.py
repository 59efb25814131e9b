"""The sequencer's process: turn after turn, whatever befalls the database, the disk or another sequencer."""

import logging
from threading import Event

from django.conf import settings
from django.db import Error, connection

from audit import log
from audit.search import BATCH as INDEX_BATCH
from audit.search import catch_up
from audit.sequencer import trouble
from audit.sequencer.trouble import TroubleError
from audit.sequencer.turn import BusyError, FencedError
from audit.sequencer.work import BATCH, Sequencer

RETRY_SECONDS = 2.0
TROUBLE_SECONDS = 10.0
"""How often it looks again whether somebody has mended what it refuses to sign."""
_log = logging.getLogger(__name__)


def run(stop: Event) -> None:
    """Sequence until ``stop`` is set. A pass that has begun is finished."""
    while not stop.is_set():
        stop.wait(one_turn(stop))


def one_turn(stop: Event) -> float:
    """One turn, to its end. Answers after how many seconds to try another."""
    sequencer = Sequencer(seed=settings.LOG_KEY, vkey=log.vkey(), folder=settings.SEQUENCER_DIR)
    try:
        sequencer.begin()
        _log.info("The sequencer begins.")
        while not stop.is_set():
            # A pass that took less than a whole batch has left nothing behind.
            waiting = sequencer.once() == BATCH
            if not _index() and not waiting:
                stop.wait(settings.SEQUENCE_SECONDS)
        return 0.0
    except TroubleError as error:
        trouble.tell(error)
        return TROUBLE_SECONDS
    except (BusyError, FencedError) as error:
        _log.warning("The sequencer waits: %s.", error)
        return RETRY_SECONDS
    except (Error, OSError) as error:
        _log.error("The sequencer begins anew after %s: %s", type(error).__name__, error)
        return RETRY_SECONDS
    finally:
        sequencer.end()
        connection.close()


def _index() -> bool:
    """One batch for the search index, which must never hold up the tree. Answers whether more waits."""
    try:
        return catch_up() == INDEX_BATCH
    except Exception:
        _log.exception("The search index does not go on.")
        return False
