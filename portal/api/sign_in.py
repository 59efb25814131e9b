"""Signing in with a device key, for the command line. The session is the same as after a password."""

import secrets
import time
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import path
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.context import Actor
from portal.api.parsing import BoundedJSONParser
from portal.refusals import mark, refused
from portal.throttles import AddressThrottle
from protocol.canonical import CanonicalError
from protocol.persons import PersonKey, Purpose, SignatureError, verify
from tenants.models import MemberKey
from tenants.selectors import key_holder

NONCE_SECONDS = 120
SESSION_KEY = "sign_in_nonce"


class SignInThrottle(AddressThrottle):
    """By address: nobody can guess a key, but everybody could fill the record with tries."""

    scope = "sign_in"


class SignInRequest(serializers.Serializer[Any]):
    fingerprint = serializers.RegexField(r"\A[0-9a-f]{64}\Z")
    nonce = serializers.RegexField(r"\A[0-9a-f]{64}\Z")
    signature = serializers.DictField()


class SignInView(APIView):
    """Both halves are for strangers, so nothing of the caller's session counts but the nonce.

    They need no CSRF token: another site cannot read the nonce that must be signed, nor send JSON here.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (SignInThrottle,)
    parser_classes = (BoundedJSONParser,)


class ChallengeView(SignInView):
    """The first half."""

    def post(self, request: Request) -> Response:
        """The document to sign for ``Purpose.PORTAL``. Its nonce is good once, in this session."""
        # Read, so that a form of another site is refused: only JSON is taken.
        serializers.Serializer[Any](data=request.data).is_valid(raise_exception=True)
        nonce = secrets.token_hex(32)
        request.session[SESSION_KEY] = {"nonce": nonce, "until": int(time.time()) + NONCE_SECONDS}
        return Response(_document(nonce))


class AnswerView(SignInView):
    """The second half."""

    def post(self, request: Request) -> Response:
        """204 and a session; 403 for every other case, told apart only as far as the caller can act on it."""
        wanted = SignInRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        kept = request.session.pop(SESSION_KEY, None)
        if kept is None or kept["nonce"] != given["nonce"] or kept["until"] <= time.time():
            return _refused(
                request, "nonce_unknown", "This challenge was used or is too old. Ask for a new one."
            )
        user = _signer(given["fingerprint"], given["nonce"], given["signature"])
        if user is None:
            return _refused(
                request,
                "refused",
                "No active member signs in with this key. Register its public half on a members' page.",
            )
        with transaction.atomic():
            login(request._request, user, backend="django.contrib.auth.backends.ModelBackend")
        return Response(status=status.HTTP_204_NO_CONTENT)


def _signer(fingerprint: str, nonce: str, signature: dict[str, Any]) -> User | None:
    key = MemberKey.objects.filter(fingerprint=fingerprint, kind=MemberKey.Kind.DEVICE).first()
    if key is None:
        return None
    try:
        person = PersonKey(key.kind, bytes.fromhex(key.public_key))
        verify(person, signature, Purpose.PORTAL, _document(nonce))
    except (SignatureError, CanonicalError):
        return None
    return key_holder(fingerprint)


def _document(nonce: str) -> dict[str, str]:
    return {"nonce": nonce, "origin": settings.BASE_URL}


def _refused(request: Request, code: str, detail: str) -> Response:
    mark(request._request, "")
    refused(action="session.refused", actor=Actor(kind="anonymous", id=""))
    return Response({"code": code, "detail": detail}, status.HTTP_403_FORBIDDEN)


urlpatterns = [
    path("sign-in/challenge/", ChallengeView.as_view(), name="api-sign-in-challenge"),
    path("sign-in/", AnswerView.as_view(), name="api-sign-in"),
]
