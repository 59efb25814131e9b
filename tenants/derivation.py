"""The fleet's wrapping key and what is derived from it. Web processes do not hold it."""

import hmac

from django.conf import settings


class WrappingError(Exception):
    """A key cannot be wrapped or opened. Never carries key material."""


def wrapping_key() -> bytes:
    """The key itself: 32 bytes.

    Raises:
        WrappingError: this process holds none.
    """
    key: bytes = settings.WRAPPING_KEY
    if not key:
        raise WrappingError("This process has no wrapping key. Only worker and manage may hold it.")
    return key


def derived_key(purpose: bytes) -> bytes:
    """A key of 32 bytes for another use than wrapping (HMAC-SHA-256 of ``purpose`` as in NIST SP 800-108).

    Raises:
        WrappingError: this process holds no wrapping key.
    """
    return hmac.digest(wrapping_key(), b"derive\0" + purpose, "sha256")
