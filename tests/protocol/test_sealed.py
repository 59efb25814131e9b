"""Sealed secrets, against libsodium's own interface."""

import nacl.bindings
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey

from protocol import sealed
from protocol.sealed import KEY_ID, MAX_SECRET_BYTES, NAME, OVERHEAD_BYTES, SealError, seal, unseal

KEY = PrivateKey(bytes(range(32)))
PUBLIC = bytes(KEY.public_key)


@given(st.binary(max_size=2000))
def test_round_trip(secret: bytes) -> None:
    """What is sealed opens with the key, here and by libsodium's own function."""
    sealed = seal(PUBLIC, secret)
    assert len(sealed) == len(secret) + OVERHEAD_BYTES
    assert unseal(bytes(KEY), sealed) == secret
    assert nacl.bindings.crypto_box_seal_open(sealed, PUBLIC, bytes(KEY)) == secret


def test_refusals() -> None:
    """Another key, a changed byte, a short text, a long secret, a malformed key."""
    sealed = seal(PUBLIC, b"secret")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for key, text in [(bytes(PrivateKey.generate()), sealed), (bytes(KEY), changed), (bytes(KEY), b"short")]:
        with pytest.raises(SealError):
            unseal(key, text)
    with pytest.raises(SealError):
        seal(PUBLIC, b"x" * (MAX_SECRET_BYTES + 1))
    with pytest.raises(SealError):
        seal(b"short", b"secret")


def test_a_sealing_key_is_named_by_its_hash() -> None:
    assert sealed.key_id(bytes(32)) == "66687aadf862bd77"
    assert KEY_ID.fullmatch(sealed.key_id(bytes(32)))


@pytest.mark.parametrize("name", ["A", "GITHUB_TOKEN", "X9_", "A" * 64])
def test_names(name: str) -> None:
    """As environment variables are called, at most 64 characters."""
    assert NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    ["", "a", "_A", "9A", "A-B", "A.B", "A/B", "A B", "A\n", "A\0", "\u00c4", "\uff21", "A" * 65, "../A"],
)
def test_no_names(name: str) -> None:
    """Lower case, a digit or underscore first, anything that a file or a shell could take for more."""
    assert NAME.fullmatch(name) is None
