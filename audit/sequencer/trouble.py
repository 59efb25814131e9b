"""Why the sequencer refuses to sign, told where everybody sees it."""

import logging
from typing import Literal, get_args

from django.db import DatabaseError, transaction
from django.utils import timezone

from audit.models import SequencerFence

Code = Literal["rolled_back", "forked", "torn", "other_key", "memory"]
CODES: tuple[Code, ...] = get_args(Code)
_log = logging.getLogger(__name__)


class TroubleError(Exception):
    """The tree in the database is not the one that was signed. Nothing more is signed until a person looked.

    ``rolled_back``: the database is older than what was signed. ``forked``: it holds other entries than were
    signed. ``torn``: leaves, tiles and newest checkpoint do not belong together. ``other_key``: the newest
    checkpoint is not by our key. ``memory``: what this machine remembers cannot be read.
    """

    def __init__(self, code: Code, words: str) -> None:
        super().__init__(words)
        self.code: Code = code


def tell(trouble: TroubleError) -> None:
    """Put it where the staff's pages read it, with the time of its first sight; and into the log."""
    _log.critical("The sequencer refuses to sign (%s): %s", trouble.code, trouble)
    try:
        with transaction.atomic():
            row, _ = SequencerFence.objects.select_for_update().get_or_create(pk=SequencerFence.ROW)
            if row.trouble != trouble.code:
                row.trouble, row.trouble_at = trouble.code, timezone.now()
            row.trouble_words = str(trouble)[:500]
            row.save(update_fields=["trouble", "trouble_words", "trouble_at"])
    except DatabaseError:
        _log.exception("The trouble could not be written to the database.")
