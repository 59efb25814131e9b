"""What a device key signs with each request."""

import pytest

from protocol.persons import Purpose, SignatureError, verify
from protocol.sessions import Request, prove, request_document
from protocol.tokens import body_hash
from tests.protocol.people import OWNER

ASKED = Request.of("POST", "/v1/sessions/end?x=1", b"{}")


def test_the_body_is_hashed_as_in_a_token() -> None:
    assert body_hash(b"{}") == ASKED.body_sha256
    assert Request.of("GET", "/").body_sha256 == body_hash(b"")


def test_a_proof_is_the_counter_and_a_signature_over_all_of_the_request() -> None:
    counter, _, signature = prove(OWNER.seed, "name", ASKED, 7).partition(".")
    made = {"kind": "device", "signature": signature}
    assert counter == "7"
    verify(OWNER.key, made, Purpose.REQUEST, request_document("name", ASKED, 7))
    others = [
        request_document("other", ASKED, 7),
        request_document("name", ASKED, 8),
        request_document("name", Request.of("PUT", ASKED.path, b"{}"), 7),
        request_document("name", Request.of("POST", "/v1/sessions/end", b"{}"), 7),
        request_document("name", Request.of("POST", ASKED.path, b""), 7),
    ]
    for other in others:
        with pytest.raises(SignatureError):
            verify(OWNER.key, made, Purpose.REQUEST, other)
