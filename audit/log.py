"""The log's name and public key, as all processes know them."""

from functools import lru_cache

from django.conf import settings

from protocol.notes import VerifierKey


def vkey() -> VerifierKey:
    """The key that the log's checkpoints are checked with; its name is the log's origin."""
    return _parsed(settings.LOG_VKEY)


@lru_cache(maxsize=4)
def _parsed(text: str) -> VerifierKey:
    return VerifierKey.parse(text)
