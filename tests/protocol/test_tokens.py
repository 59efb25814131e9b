"""Runtime tokens: what is believed, and every way in which it must not be."""

import base64
import hmac
import json
import time
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.tokens import (
    BreakGlassToken,
    Expected,
    RuntimeToken,
    TokenError,
    body_hash,
    new_runtime_token,
    public_key,
    sign,
    verify_break_glass_token,
    verify_runtime_token,
)

SEED, OTHER_SEED = bytes(range(32)), bytes(range(1, 33))
KEYS = [public_key(SEED)]
NOW = 1_800_000_000
WANTED = Expected("runtime-a", "tenant-a", "POST", "/v1/x?y=1", body_hash(b"{}"), NOW)


def token(**changed: Any) -> RuntimeToken:
    made = new_runtime_token(
        issuer="i",
        runtime_id="runtime-a",
        tenant_id="tenant-a",
        actor="user:1",
        role="owner",
        method="POST",
        path="/v1/x?y=1",
        body=b"{}",
        now=NOW,
    )
    return replace(made, **changed)


def segment(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def compact(header: Any, claims: Any, seed: bytes = SEED) -> str:
    """A token made by hand, so that it can be wrong in any way."""
    signed = f"{segment(header)}.{segment(claims)}"
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(signed.encode())
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def code(text: str, expected: Expected = WANTED, keys: list[bytes] = KEYS) -> str:
    with pytest.raises(TokenError) as refusal:
        verify_runtime_token(text, keys, expected)
    return refusal.value.code


HEADER = {"alg": "Ed25519", "typ": "rt+jwt"}


def test_a_perfect_token_is_believed() -> None:
    """Also when made by hand: the format is the standard's, not ours."""
    assert verify_runtime_token(sign(token(), SEED), KEYS, WANTED).sub == "user:1"
    assert verify_runtime_token(compact(HEADER, asdict(token())), KEYS, WANTED).role == "owner"


def test_either_key_of_a_rotation() -> None:
    """Old and new both sign while both are listed; a key that is not listed does not."""
    both = [public_key(OTHER_SEED), public_key(SEED)]
    assert verify_runtime_token(sign(token(), SEED), both, WANTED)
    assert verify_runtime_token(sign(token(), OTHER_SEED), both, WANTED)
    assert code(sign(token(), OTHER_SEED)) == "token_invalid"
    assert code(sign(token(), SEED), keys=[]) == "token_invalid"


def test_no_other_algorithm() -> None:
    """`none`, an HMAC under the public key, and EdDSA's general name are all refused."""
    claims = asdict(token())
    unsigned = f"{segment({'alg': 'none', 'typ': 'rt+jwt'})}.{segment(claims)}."
    assert code(unsigned) == "token_invalid"
    signed = f"{segment({'alg': 'HS256', 'typ': 'rt+jwt'})}.{segment(claims)}"
    mac = base64.urlsafe_b64encode(hmac.digest(KEYS[0], signed.encode(), "sha256")).rstrip(b"=").decode()
    assert code(f"{signed}.{mac}") == "token_invalid"
    assert code(compact({"alg": "EdDSA", "typ": "rt+jwt"}, claims)) == "token_invalid"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "Ed25519"},
        {"alg": "Ed25519", "typ": "JWT"},
        {"alg": "Ed25519", "typ": "bg+jwt"},
        {**HEADER, "crit": ["x"], "x": 1},
        {**HEADER, "kid": "1"},
        {**HEADER, "b64": False, "crit": ["b64"]},
        {**HEADER, "jwk": {"kty": "OKP"}},
    ],
)
def test_exactly_one_header(header: dict[str, Any]) -> None:
    """Nothing in a header is interpreted, so nothing more may stand there."""
    assert code(compact(header, asdict(token()))) == "token_invalid"


@pytest.mark.parametrize("name", sorted(asdict(token())))
def test_every_claim_is_required(name: str) -> None:
    """Missing, null or of another type: refused. So is a claim more."""
    claims = asdict(token())
    del claims[name]
    assert code(compact(HEADER, claims)) == "token_invalid"
    wrong = [1.5] if name != "bsh" else 7
    assert code(compact(HEADER, {**claims, name: wrong})) == "token_invalid"
    assert code(compact(HEADER, {**asdict(token()), "more": 1})) == "token_invalid"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aud", "runtime-b"),
        ("tenant_id", "tenant-b"),
        ("htm", "GET"),
        ("htp", "/v1/x"),
        ("htp", "/v1/x?y=1&z"),
        ("bsh", body_hash(b"")),
        ("bsh", None),
    ],
)
def test_for_this_request_only(name: str, value: Any) -> None:
    """Another runtime, tenant, method, path, query or body: refused."""
    assert code(sign(token(**{name: value}), SEED)) == "token_wrong_request"


def test_an_unknown_body_only_where_routed() -> None:
    """`bsh` may be null on content routes; a wrong one is refused there too."""
    routed = replace(WANTED, routed=True)
    assert verify_runtime_token(sign(token(bsh=None), SEED), KEYS, routed)
    assert code(sign(token(bsh=body_hash(b"x")), SEED), routed) == "token_wrong_request"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW + 59, None),
        (NOW + 60, "token_expired"),
        (NOW + 61, "token_expired"),
        (NOW + 300, "token_expired"),
        (NOW + 86400, "token_expired"),
        (NOW - 5, None),
        (NOW - 6, "token_not_yet_valid"),
        (NOW - 300, "token_not_yet_valid"),
        (NOW - 86400, "token_not_yet_valid"),
    ],
)
def test_time(now: int, expected: str | None) -> None:
    """Expiry has no leeway; a portal's clock may be five seconds ahead and no more."""
    text = sign(token(), SEED)
    if expected is None:
        assert verify_runtime_token(text, KEYS, replace(WANTED, now=now))
    else:
        assert code(text, replace(WANTED, now=now)) == expected


def test_no_long_life() -> None:
    """More than 60 seconds is refused however valid it looks, and so are times out of order."""
    assert code(sign(token(exp=NOW + 61), SEED)) == "token_invalid"
    assert code(sign(token(nbf=NOW - 1), SEED)) == "token_invalid"
    assert code(sign(token(exp=NOW - 1), SEED)) == "token_invalid"


@given(st.text(max_size=200))
def test_noise(text: str) -> None:
    """Whatever text comes, the answer is a refusal and no other error."""
    assert code(text) == "token_invalid"


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_any_change_of_a_character(place: int, character: str) -> None:
    """No token with one character changed is believed."""
    text = sign(token(jti="fixed"), SEED)
    at = place % len(text)
    changed = text[:at] + character + text[at + 1 :]
    if changed != text:
        assert code(changed).startswith("token_")


def test_size() -> None:
    """A megabyte is refused before anything is parsed."""
    began = time.monotonic()
    assert code("a" * 10_000_000) == "token_invalid"
    assert time.monotonic() - began < 5


def test_break_glass_tokens_are_no_runtime_tokens() -> None:
    """Each kind is refused where the other is asked for; the long one lives ten minutes at most."""
    extra = {"ticket": "t", "scopes": ["logs:read"], "paths": ["/"], "digest": sha256(b"t").hexdigest()}
    glass = BreakGlassToken(**{**asdict(token(exp=NOW + 600)), **extra})
    assert verify_break_glass_token(sign(glass, SEED), KEYS, WANTED).ticket == "t"
    assert code(sign(glass, SEED)) == "token_invalid"
    with pytest.raises(TokenError):
        verify_break_glass_token(sign(token(), SEED), KEYS, WANTED)
    with pytest.raises(TokenError):
        verify_break_glass_token(sign(replace(glass, exp=NOW + 601), SEED), KEYS, WANTED)


def test_a_break_glass_token_may_be_longer() -> None:
    """It names the ticket's paths; but no header holds more than the agent reads."""
    more: dict[str, Any] = {"ticket": "t", "scopes": ["status"], "digest": "0" * 64}
    for length, fits in ((5000, True), (6000, False)):
        glass = BreakGlassToken(**asdict(token()), **more, paths=["x" * length])
        try:
            assert verify_break_glass_token(sign(glass, SEED), KEYS, WANTED).paths == glass.paths
            assert fits
        except TokenError:
            assert not fits
