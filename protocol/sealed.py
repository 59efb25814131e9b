"""Secrets sealed to a guest's key: libsodium's sealed box, as GitHub Actions secrets use it."""

import re
from hashlib import sha256

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

MAX_SECRET_BYTES = 32 * 1024
"""In base64 it still fits a body of 64 KiB, with its name and version."""
OVERHEAD_BYTES = 48
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""What a secret may be called; to be matched in full."""
KEY_ID = re.compile(r"[0-9a-f]{16}")
"""The form of a :func:`key_id`; to be matched in full."""


class SealError(ValueError):
    """A secret that cannot be sealed or opened. Never carries it."""


def key_id(public_key: bytes) -> str:
    """The name of a sealing key: the first 16 hexadecimal digits of its SHA-256."""
    return sha256(public_key).hexdigest()[:16]


def seal(public_key: bytes, secret: bytes) -> bytes:
    """Seal ``secret`` to an X25519 key (32 bytes). Nobody but the key's holder can open the answer.

    Raises:
        SealError: the key is malformed or the secret too long.
    """
    if len(secret) > MAX_SECRET_BYTES:
        raise SealError(f"a secret may have at most {MAX_SECRET_BYTES} bytes")
    if len(public_key) != PublicKey.SIZE:
        raise SealError(f"a sealing key has {PublicKey.SIZE} bytes")
    return bytes(SealedBox(PublicKey(public_key)).encrypt(secret))


def unseal(private_key: bytes, sealed: bytes) -> bytes:
    """Open what was sealed to the public half of ``private_key`` (32 bytes).

    Raises:
        SealError: sealed to another key, or damaged.
    """
    if not OVERHEAD_BYTES <= len(sealed) <= MAX_SECRET_BYTES + OVERHEAD_BYTES:
        raise SealError("not a sealed secret")
    try:
        return bytes(SealedBox(PrivateKey(private_key)).decrypt(sealed))
    except (CryptoError, ValueError, TypeError):
        raise SealError("sealed to another key, or damaged") from None
