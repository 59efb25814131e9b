"""Signing a document in the page, in two steps (``static/portal/sign.js``).

First the page posts its form: the answer is the document, its challenge and the passkeys that may sign; the
document stays in the session. Then the page posts the assertion: it is checked against the document that was
kept, never one that the browser sends. A document is signed once, and within ten minutes.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from django.http import HttpRequest, JsonResponse

from protocol.persons import MAX_SIGNATURE_BYTES, Purpose, digest, encode
from tenants.sites import rp_id

KEPT = "signing"
"""The session's member: slot → document and the second it was made."""
MAX_AGE_SECONDS = 600
MAX_SLOTS = 8
"""Documents that one session keeps; the oldest makes room. More tabs than that sign one after another."""
MAX_ANSWER_BYTES = 4 * MAX_SIGNATURE_BYTES
MEMBERS = {"kind", "by", "client_data", "authenticator_data", "signature"}


class SigningRefused(Exception):
    """The page's answer is not taken; the message says what to do."""


class Key(Protocol):
    """A passkey that may sign: :class:`breakglass.models.Passkey` or :class:`tenants.models.MemberKey`."""

    credential_id: Any
    """Base64url."""
    fingerprint: Any
    """SHA-256 in hex."""


def is_answer(request: HttpRequest) -> bool:
    """Whether this is the second step."""
    return "signature" in request.POST


def ask(
    request: HttpRequest, *, slot: str, purpose: Purpose, document: Mapping[str, Any], keys: Iterable[Key]
) -> JsonResponse:
    """The first step's answer. ``slot`` names what is signed, the row included."""
    kept: dict[str, Any] = request.session.get(KEPT, {})
    kept.pop(slot, None)
    kept = dict(list(kept.items())[-(MAX_SLOTS - 1) :])
    request.session[KEPT] = kept | {slot: {"document": document, "at": int(time.time())}}
    return JsonResponse(
        {
            "document": document,
            "challenge": encode(digest(purpose, document)),
            "rp_id": rp_id(),
            "credentials": [{"id": key.credential_id, "fingerprint": key.fingerprint} for key in keys],
        }
    )


def answered(request: HttpRequest, *, slot: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The document that was kept in ``slot``, and the assertion as it came; only its shape is checked here.

    Raises:
        SigningRefused: nothing is kept, it is too old, or the answer has another shape.
    """
    kept: dict[str, Any] = request.session.get(KEPT, {})
    waiting = kept.pop(slot, None)
    request.session[KEPT] = kept
    if waiting is None or time.time() - waiting["at"] > MAX_AGE_SECONDS:
        raise SigningRefused("This page has waited too long. Press the button again.")
    text = request.POST.get("signature", "")
    if len(text) > MAX_ANSWER_BYTES:
        raise SigningRefused("The passkey's answer is too long. Press the button again.")
    try:
        signature = json.loads(text)
    except (ValueError, RecursionError):
        signature = None
    if not isinstance(signature, dict) or signature.keys() != MEMBERS:
        raise SigningRefused("The passkey's answer does not fit. Press the button again.")
    if not all(isinstance(value, str) for value in signature.values()):
        raise SigningRefused("The passkey's answer does not fit. Press the button again.")
    return waiting["document"], signature


def done(url: str) -> JsonResponse:
    """The second step's answer: where the page goes."""
    return JsonResponse({"next": url})


def refused(message: str, *, status: int = 409, fields: Mapping[str, str] | None = None) -> JsonResponse:
    """Either step's refusal; ``fields`` holds words beside single fields of the form."""
    return JsonResponse({"detail": message, "fields": dict(fields or {})}, status=status)
