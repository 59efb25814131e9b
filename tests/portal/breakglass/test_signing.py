"""Two steps of signing: what is checked is the document that the portal kept, once and for ten minutes."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest
from django.test import RequestFactory

from portal.breakglass.signing import SigningRefused, answered, ask
from protocol.persons import Purpose, digest, encode

DOCUMENT = {"ticket": "7", "reason": "Grüße"}
KEY = SimpleNamespace(credential_id="aWQ", fingerprint="ab" * 32)
ANSWER = {"kind": "passkey", "by": "ab" * 32, "client_data": "a", "authenticator_data": "b", "signature": "c"}


@pytest.fixture
def session() -> SessionStore:
    return SessionStore()


def post(session: Any, **fields: str) -> HttpRequest:
    request = RequestFactory().post("/", fields)
    request.session = session
    return request


def begin(session: Any, slot: str = "approve:7", document: Any = DOCUMENT) -> Any:
    answer = ask(post(session), slot=slot, purpose=Purpose.APPROVAL, document=document, keys=[KEY])
    return json.loads(answer.content)


def finish(session: Any, slot: str = "approve:7", **changes: Any) -> Any:
    return answered(post(session, signature=json.dumps(ANSWER | changes)), slot=slot)


def test_the_first_step_tells_what_to_sign(session: Any) -> None:
    """The challenge is the digest that protocol.persons checks."""
    told = begin(session)
    assert told == {
        "document": DOCUMENT,
        "challenge": encode(digest(Purpose.APPROVAL, DOCUMENT)),
        "rp_id": "portal.localhost",
        "credentials": [{"id": "aWQ", "fingerprint": "ab" * 32}],
    }


def test_the_second_step_believes_the_session_only(session: Any) -> None:
    """A document that the browser sends is not even read."""
    begin(session)
    request = post(session, signature=json.dumps(ANSWER), document=json.dumps({"ticket": "8"}))
    assert answered(request, slot="approve:7") == (DOCUMENT, ANSWER)


def test_a_document_is_signed_once(session: Any) -> None:
    begin(session)
    finish(session)
    with pytest.raises(SigningRefused, match="waited too long"):
        finish(session)


def test_what_was_asked_for_one_thing_signs_no_other(session: Any) -> None:
    """The slot names the deed and the row."""
    begin(session)
    for slot in ("approve:8", "reject:7"):
        with pytest.raises(SigningRefused):
            finish(session, slot=slot)
    assert finish(session)[0] == DOCUMENT


def test_a_document_waits_ten_minutes(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("portal.breakglass.signing.time.time", lambda: now)
    begin(session)
    now += 600
    assert finish(session)[0] == DOCUMENT
    begin(session)
    now += 601
    with pytest.raises(SigningRefused, match="waited too long"):
        finish(session)


def test_a_session_keeps_eight(session: Any) -> None:
    """The oldest makes room, and asking again for the same thing takes no other's place."""
    for number in range(9):
        begin(session, slot=f"approve:{number}", document={"ticket": str(number)})
    begin(session, slot="approve:8", document={"ticket": "new"})
    with pytest.raises(SigningRefused):
        finish(session, slot="approve:0")
    assert finish(session, slot="approve:1")[0] == {"ticket": "1"}
    assert finish(session, slot="approve:8")[0] == {"ticket": "new"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "null",
        json.dumps(ANSWER | {"more": "x"}),
        json.dumps({k: v for k, v in ANSWER.items() if k != "by"}),
        json.dumps(ANSWER | {"signature": 7}),
        json.dumps(ANSWER | {"signature": "x" * 20_000}),
    ],
)
def test_an_answer_of_another_shape_is_refused(session: Any, text: str) -> None:
    begin(session)
    with pytest.raises(SigningRefused, match="Press the button again"):
        answered(post(session, signature=text), slot="approve:7")


def test_an_answer_of_great_depth_is_refused(session: Any) -> None:
    """Python's reader of JSON gives up on it in a way of its own."""
    begin(session)
    with pytest.raises(SigningRefused, match="does not fit"):
        answered(post(session, signature="[" * 8000), slot="approve:7")
