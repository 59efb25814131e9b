"""Personal data outside the leaf: a leaf holds a commitment, and the value with its salt can be erased."""

from hashlib import sha256

from protocol.canonical import canonical

SALT_BYTES = 32
_PURPOSE = b"portal personal v1\0"


def commitment(salt: bytes, kind: str, value: str) -> bytes:
    """SHA-256 over purpose, salt and the canonical ``{"kind", "value"}``: 32 bytes that hide the value.

    The salt is random, 32 bytes, and used for this one value; without it nobody can test guesses.

    Raises:
        ValueError: the salt is not 32 bytes long.
        protocol.canonical.CanonicalError: text that is not valid Unicode.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError("A salt is 32 bytes long.")
    return sha256(_PURPOSE + salt + canonical({"kind": kind, "value": value})).digest()
