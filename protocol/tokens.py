"""Tokens that the control plane signs for one request to one runtime (DESIGN §4).

A runtime token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037, named as in RFC 9864), good for one method,
path and body within 60 seconds. It gets a request to the guest's door; it opens no content.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, TypeVar, get_type_hints

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

ALGORITHM = "Ed25519"
RUNTIME_TYPE = "rt+jwt"
BREAK_GLASS_TYPE = "bg+jwt"
LIFETIME_SECONDS = 60
BREAK_GLASS_LIFETIME_SECONDS = 600
CLOCK_LEEWAY_SECONDS = 5
"""How far ahead of the guest's clock the portal's may be. Expiry has no leeway."""
MAX_TOKEN_CHARACTERS = 4096
MAX_BREAK_GLASS_TOKEN_CHARACTERS = 8000
"""It names the ticket's paths too. An HTTP header of the agent's has 8190 at most."""
_HASH = re.compile(r"[0-9a-f]{64}")


T = TypeVar("T", bound="RuntimeToken")


class TokenError(ValueError):
    """A token that must not be believed. ``code`` is for machines and tells an attacker nothing new."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class RuntimeToken:
    """The claims; all of them required. Times in whole seconds since 1970."""

    iss: str
    aud: str
    """The runtime's UUID."""
    tenant_id: str
    sub: str
    """The actor."""
    role: str
    iat: int
    nbf: int
    exp: int
    jti: str
    htm: str
    htp: str
    """Path with query, as sent."""
    bsh: str | None
    """SHA-256 of the body in hex; None only on routed requests to content routes."""


@dataclass(frozen=True)
class BreakGlassToken(RuntimeToken):
    """What a ticket's holder gets; the guest still wants the approvals themselves."""

    ticket: str
    scopes: list[str]
    paths: list[str]
    digest: str
    """SHA-256 of the canonical ticket in hex."""


@dataclass(frozen=True)
class Expected:
    """The request as the guest sees it."""

    runtime_id: str
    tenant_id: str
    method: str
    path: str
    body_sha256: str
    now: int
    routed: bool = False
    """Whether ``bsh`` may be null: only on content routes."""


def body_hash(body: bytes) -> str:
    """What ``bsh`` holds for ``body``."""
    return sha256(body).hexdigest()


def new_runtime_token(
    *,
    issuer: str,
    runtime_id: str,
    tenant_id: str,
    actor: str,
    role: str,
    method: str,
    path: str,
    body: bytes | None,
    now: int,
) -> RuntimeToken:
    """Claims for one request that is about to be made."""
    return RuntimeToken(
        iss=issuer,
        aud=runtime_id,
        tenant_id=tenant_id,
        sub=actor,
        role=role,
        iat=now,
        nbf=now,
        exp=now + LIFETIME_SECONDS,
        jti=str(uuid.uuid4()),
        htm=method,
        htp=path,
        bsh=None if body is None else body_hash(body),
    )


def sign(token: RuntimeToken, seed: bytes) -> str:
    """The compact form, signed with the Ed25519 key of ``seed`` (32 bytes)."""
    kind = BREAK_GLASS_TYPE if isinstance(token, BreakGlassToken) else RUNTIME_TYPE
    key = OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(seed))
    return jwt.encode({"alg": ALGORITHM, "typ": kind}, asdict(token), key, algorithms=[ALGORITHM])


def public_key(seed: bytes) -> bytes:
    """The 32 bytes of the public key that belongs to ``seed``."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def verify_runtime_token(text: str, keys: Sequence[bytes], expected: Expected) -> RuntimeToken:
    """Check signature, every claim and every binding. Replay is the caller's ledger's matter.

    Raises:
        TokenError: ``token_invalid``, ``token_expired``, ``token_not_yet_valid`` or ``token_wrong_request``.
    """
    return _verify(text, keys, expected, RuntimeToken, RUNTIME_TYPE, LIFETIME_SECONDS)


def verify_break_glass_token(text: str, keys: Sequence[bytes], expected: Expected) -> BreakGlassToken:
    """The same for a break-glass token. Raises TokenError."""
    found = _verify(text, keys, expected, BreakGlassToken, BREAK_GLASS_TYPE, BREAK_GLASS_LIFETIME_SECONDS)
    if not _HASH.fullmatch(found.digest) or not all(isinstance(s, str) for s in found.scopes + found.paths):
        raise TokenError("token_invalid")
    return found


def _verify(
    text: str, keys: Sequence[bytes], expected: Expected, form: type[T], kind: str, lifetime: int
) -> T:
    longest = MAX_BREAK_GLASS_TOKEN_CHARACTERS if kind == BREAK_GLASS_TYPE else MAX_TOKEN_CHARACTERS
    if len(text) > longest:
        raise TokenError("token_invalid")
    token = _claims(_signed_claims(text, keys, kind), form)
    _check_times(token, lifetime, expected.now)
    hash_fits = token.bsh == expected.body_sha256 or (token.bsh is None and expected.routed)
    bound = (token.aud, token.tenant_id, token.htm, token.htp, hash_fits)
    if bound != (expected.runtime_id, expected.tenant_id, expected.method, expected.path, True):
        raise TokenError("token_wrong_request")
    return token


def _signed_claims(text: str, keys: Sequence[bytes], kind: str) -> Mapping[str, Any]:
    for raw in keys:
        key = OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw))
        try:
            found = jwt.decode(text, key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
        # Exactly these two: no `crit`, `kid`, `jwk` or `b64` to reason about.
        if found.header != {"alg": ALGORITHM, "typ": kind}:
            break
        return found.claims
    raise TokenError("token_invalid")


def _claims(claims: Mapping[str, Any], form: type[T]) -> T:
    hints = get_type_hints(form)
    if claims.keys() != {field.name for field in fields(form)}:
        raise TokenError("token_invalid")
    for name, value in claims.items():
        hint = list if hints[name] == list[str] else hints[name]
        if isinstance(value, bool) or not isinstance(value, hint):
            raise TokenError("token_invalid")
    token = form(**claims)
    if not token.jti or (token.bsh is not None and not _HASH.fullmatch(token.bsh)):
        raise TokenError("token_invalid")
    return token


def _check_times(token: RuntimeToken, lifetime: int, now: int) -> None:
    if not token.iat <= token.nbf <= token.exp <= token.iat + lifetime:
        raise TokenError("token_invalid")
    if token.exp <= now:
        raise TokenError("token_expired")
    if token.nbf > now + CLOCK_LEEWAY_SECONDS:
        raise TokenError("token_not_yet_valid")
