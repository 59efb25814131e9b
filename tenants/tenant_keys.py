"""A tenant's own key: web wraps with the public half, a worker unwraps with the private one (ADR 22).

HPKE (RFC 9180) to the tenant's X25519 key with the row's identity as ``info``: what was moved to another row
does not open. The private half is wrapped by django-cryptography's Fernet under a key that is derived
from the fleet's wrapping key for this one row.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from django.core.signing import BadSignature
from django_cryptography.core.signing import FernetSigner
from django_cryptography.utils.crypto import FernetBytes, InvalidToken

from tenants.derivation import WrappingError, derived_key
from tenants.models import TenantKey


class DamagedError(WrappingError):
    """The tenant's key is as it was, and what it should open is not."""


_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def new_pair(identity: str) -> tuple[str, bytes]:
    """A public half in hex, and its private half wrapped for the row of that identity.

    Raises:
        WrappingError: this process holds no wrapping key.
    """
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    return public, bytes(_fernet(identity).encrypt(private.private_bytes_raw()))


def wrap(key: TenantKey, plaintext: bytes, *, identity: str) -> bytes:
    """Wrap for the row named by ``identity``. Needs nothing secret, and nobody here can undo it."""
    public = X25519PublicKey.from_public_bytes(bytes.fromhex(key.public_key))
    return bytes(_SUITE.encrypt(plaintext, public, info=identity.encode()))


def unwrap(key: TenantKey, wrapped: bytes | memoryview, *, identity: str) -> bytes:
    """Open what :func:`wrap` made with the same key for the same identity.

    Raises:
        DamagedError: wrapped with another key or for another row, or damaged.
        WrappingError: no wrapping key here, or the tenant's key is destroyed or was changed.
    """
    private = _private(key)
    try:
        return bytes(_SUITE.decrypt(bytes(wrapped), private, info=identity.encode()))
    except (InvalidTag, ValueError):
        raise DamagedError(f"{identity}: wrapped with another key or for another row.") from None


def _private(key: TenantKey) -> X25519PrivateKey:
    if key.private_key is None:
        raise WrappingError(f"{key.identity} is destroyed.")
    try:
        raw = _fernet(key.identity).decrypt(bytes(key.private_key))
        private = X25519PrivateKey.from_private_bytes(raw)
    except (BadSignature, InvalidToken, ValueError):
        raise WrappingError(f"{key.identity}: wrapped under another key or for another row.") from None
    # Web can write this table: a public half that is not this key's would be somebody else's.
    if private.public_key().public_bytes_raw().hex() != key.public_key:
        raise WrappingError(f"{key.identity} is not its public half's. Look who changed it.")
    return private


def _fernet(identity: str) -> FernetBytes:
    # Its own defaults would come from SECRET_KEY, which web holds; and it binds no identity, so the keys do.
    keys = [derived_key(f"{use} v1\0{identity}".encode()) for use in ("tenant key", "tenant key signer")]
    return FernetBytes(keys[0], FernetSigner(keys[1]))
