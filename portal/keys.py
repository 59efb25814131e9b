"""Keys of 32 bytes from the environment. Reads no settings: they read it."""

import base64
import binascii

from django.core.exceptions import ImproperlyConfigured


def thirty_two_bytes(name: str, given: str) -> bytes:
    """The key that ``given`` is in base64; empty if nothing was given.

    Raises:
        ImproperlyConfigured: naming the variable, never its value.
    """
    try:
        key = base64.b64decode(given, validate=True)
    except binascii.Error:
        raise ImproperlyConfigured(f"{name} is not base64. Give 32 random bytes.") from None
    if key and len(key) != 32:
        raise ImproperlyConfigured(f"{name} must be 32 bytes, as base64.")
    return key
