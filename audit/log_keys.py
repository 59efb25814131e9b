"""Which key signs the log, and by which key it is checked: read once, when a process starts."""

import base64
import binascii
import hashlib

from django.core.exceptions import ImproperlyConfigured

from protocol.notes import KEY_BYTES, NoteError, VerifierKey, vkey_of

DEVELOPMENT_SEED = hashlib.sha256(b"development only: the audit log's key").digest()
"""Everybody knows it. A portal without keys of its own signs with it, and none in production does."""


def log_keys(*, role: str, secret: str, public: str, origin: str, production: bool) -> tuple[bytes, str]:
    """The seed (empty in a process that must not sign) and the verifier key's text.

    Args:
        secret: ``PORTAL_LOG_KEY``, which only the sequencer may hold.
        public: ``PORTAL_LOG_VKEY``.
        origin: the log's name where neither is given.

    Raises:
        ImproperlyConfigured: naming the variable to change.
    """
    if secret and role != "sequencer":
        raise ImproperlyConfigured(
            f"The {role} process must not hold PORTAL_LOG_KEY. Remove it from its environment."
        )
    if not secret and not public and not production:
        seed = DEVELOPMENT_SEED if role in {"sequencer", "manage"} else b""
        return seed, str(vkey_of(origin, DEVELOPMENT_SEED))
    seed, vkey = _seed(secret), _vkey(public)
    if role == "sequencer" and (not seed or vkey_of(vkey.name, seed) != vkey):
        raise ImproperlyConfigured("PORTAL_LOG_KEY is missing, or is not the secret half of PORTAL_LOG_VKEY.")
    if production and vkey == vkey_of(vkey.name, DEVELOPMENT_SEED):
        raise ImproperlyConfigured("PORTAL_LOG_VKEY is the development key. Make a pair: manage.py log_key.")
    return seed, str(vkey)


def _seed(secret: str) -> bytes:
    try:
        seed = base64.b64decode(secret, validate=True)
    except binascii.Error:
        raise ImproperlyConfigured("PORTAL_LOG_KEY is not base64. Give 32 random bytes.") from None
    if seed and len(seed) != KEY_BYTES:
        raise ImproperlyConfigured("PORTAL_LOG_KEY must be 32 bytes, as base64.")
    return seed


def _vkey(public: str) -> VerifierKey:
    if not public:
        raise ImproperlyConfigured("PORTAL_LOG_VKEY is missing. Make a pair: manage.py log_key.")
    try:
        return VerifierKey.parse(public)
    except NoteError:
        raise ImproperlyConfigured("PORTAL_LOG_VKEY is no verifier key: name+key id+base64.") from None
