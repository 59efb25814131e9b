"""Keys at rest: AES-256-GCM under the fleet's wrapping key, bound to the row they belong to.

A wrapped key that is moved to another row or column does not open, because the row's identity is the
associated data. The web process has no wrapping key, so it can carry these bytes but not open them.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_VERSION = b"\x01"
_NONCE_BYTES = 12


class WrappingError(Exception):
    """A key cannot be wrapped or opened. Never carries key material."""


def wrap(plaintext: bytes, *, identity: str) -> bytes:
    """Wrap ``plaintext`` for the row and column named by ``identity``, such as ``runtime/<uuid>/volume_key``.

    Raises:
        WrappingError: this process holds no wrapping key.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(_key()).encrypt(nonce, plaintext, identity.encode())


def unwrap(wrapped: bytes | memoryview, *, identity: str) -> bytes:
    """Open what :func:`wrap` made for the same ``identity``.

    Raises:
        WrappingError: no wrapping key here, another key, another identity, or damaged bytes.
    """
    data = bytes(wrapped)
    if data[:1] != _VERSION:
        raise WrappingError(f"{identity}: unknown format of a wrapped key.")
    nonce, ciphertext = data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :]
    try:
        return AESGCM(_key()).decrypt(nonce, ciphertext, identity.encode())
    except (InvalidTag, ValueError):
        raise WrappingError(f"{identity}: wrapped under another key or for another row.") from None


def derived_key(purpose: bytes) -> bytes:
    """A key of 32 bytes for another use than wrapping (HMAC-SHA-256 of ``purpose`` as in NIST SP 800-108).

    Raises:
        WrappingError: this process holds no wrapping key.
    """
    return hmac.digest(_key(), b"derive\0" + purpose, "sha256")


def _key() -> bytes:
    key: bytes = settings.WRAPPING_KEY
    if not key:
        raise WrappingError("This process has no wrapping key. Only worker and manage may hold it.")
    return key
