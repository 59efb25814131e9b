"""Keys at rest: AES-256-GCM under the fleet's wrapping key, bound to the row they belong to.

A wrapped key that is moved to another row or column does not open, because the row's identity is the
associated data. The web process has no wrapping key, so it can carry these bytes but not open them.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.derivation import WrappingError, derived_key, wrapping_key

__all__ = ["WrappingError", "derived_key", "unwrap", "wrap"]
_VERSION = b"\x01"
_NONCE_BYTES = 12


def wrap(plaintext: bytes, *, identity: str) -> bytes:
    """Wrap ``plaintext`` for the row and column named by ``identity``, such as ``runtime/<uuid>/volume_key``.

    Raises:
        WrappingError: this process holds no wrapping key.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(wrapping_key()).encrypt(nonce, plaintext, identity.encode())


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
        return AESGCM(wrapping_key()).decrypt(nonce, ciphertext, identity.encode())
    except (InvalidTag, ValueError):
        raise WrappingError(f"{identity}: wrapped under another key or for another row.") from None
