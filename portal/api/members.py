"""Members' keys, the keyring and the consents. Signatures are made by their holders, never here."""

from typing import Any

from django.http import Http404
from django.urls import path
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit.context import Actor
from portal.api.tenants import TenantView
from portal.members import entry, overview
from portal.passkeys import PasskeyRefused, creation_options, registered
from tenants.models import MemberKey
from tenants.selectors import keys_of
from tenants.services import MembersRefused, consent_accept, key_register, key_remove, keyring_accept


class KeyRequest(serializers.Serializer[Any]):
    """Either half of the two forms; which one is checked against ``kind``."""

    kind = serializers.ChoiceField(choices=MemberKey.Kind.choices)
    name = serializers.CharField(max_length=80)
    public_key = serializers.RegexField(
        r"\A[0-9a-f]{64}\Z",
        required=False,
        error_messages={"invalid": "Give the public key as 64 small hexadecimal digits."},
    )
    credential = serializers.DictField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A device key comes with its public key, a passkey with the browser's answer."""
        needed = {"device": "public_key", "passkey": "credential"}[attrs["kind"]]
        if needed not in attrs:
            raise serializers.ValidationError({needed: "This field is required."})
        return attrs


class SignedRequest(serializers.Serializer[Any]):
    document = serializers.DictField()
    signature = serializers.DictField()


class KeyringView(TenantView):
    """The keyring: all that a signer needs, and the place to send what was signed."""

    def get(self, _request: Request, slug: str) -> Response:
        """Keys, keyring, consents, and what the guest itself states."""
        return Response(overview(self.person(), self.tenant(slug)))

    def post(self, request: Request, slug: str) -> Response:
        """Keep the next version."""
        tenant, given = self.tenant(slug), _signed(request)
        kept = keyring_accept(actor=Actor.of(self.person()), tenant=tenant, **given)
        return Response({"version": kept.version, "hash": kept.hash})


class ConsentsView(TenantView):
    """What owners agree to."""

    def post(self, request: Request, slug: str) -> Response:
        """Keep the next version."""
        tenant, given = self.tenant(slug), _signed(request)
        kept = consent_accept(actor=Actor.of(self.person()), tenant=tenant, **given)
        return Response({"version": kept.version})


class KeysView(TenantView):
    """One's own keys."""

    def post(self, request: Request, slug: str) -> Response:
        """201 with the entry."""
        tenant, user = self.tenant(slug), self.person()
        wanted = KeyRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        credential_id = ""
        if given["kind"] == MemberKey.Kind.DEVICE:
            public_key = bytes.fromhex(given["public_key"])
        else:
            try:
                public_key, credential_id = registered(request.session, given["credential"])
            except PasskeyRefused as refusal:
                raise MembersRefused("bad_passkey", str(refusal)) from None
        key = key_register(
            actor=Actor.of(user),
            tenant=tenant,
            kind=given["kind"],
            public_key=public_key,
            name=given["name"],
            credential_id=credential_id,
        )
        made = keys_of(tenant).get(pk=key.pk)
        return Response(entry(made, user, frozenset()), status.HTTP_201_CREATED)


class KeyOptionsView(TenantView):
    """What the browser needs to make a passkey."""

    def post(self, request: Request, slug: str) -> Response:
        """WebAuthn's creation options as JSON. The challenge in them is good once."""
        tenant, user = self.tenant(slug), self.person()
        known = keys_of(tenant).filter(user=user).exclude(credential_id="")
        options = creation_options(
            request.session,
            username=user.username,
            label=f"{user.username} at {tenant.name}",
            known=known.values_list("credential_id", flat=True),
        )
        return Response(options)


class KeyView(TenantView):
    """One registered key."""

    def delete(self, _request: Request, slug: str, fingerprint: str) -> Response:
        """204. Not while the keyring names it."""
        tenant = self.tenant(slug)
        try:
            key_remove(actor=Actor.of(self.person()), tenant=tenant, fingerprint=fingerprint)
        except MemberKey.DoesNotExist:
            raise Http404 from None
        return Response(status=status.HTTP_204_NO_CONTENT)


def _signed(request: Request) -> dict[str, Any]:
    wanted = SignedRequest(data=request.data)
    wanted.is_valid(raise_exception=True)
    return dict(wanted.validated_data)


urlpatterns = [
    path("tenants/<slug:slug>/keyring/", KeyringView.as_view(), name="api-keyring"),
    path("tenants/<slug:slug>/consents/", ConsentsView.as_view(), name="api-consents"),
    path("tenants/<slug:slug>/keys/", KeysView.as_view(), name="api-keys"),
    path("tenants/<slug:slug>/keys/options/", KeyOptionsView.as_view(), name="api-key-options"),
    path("tenants/<slug:slug>/keys/<slug:fingerprint>/", KeyView.as_view(), name="api-key"),
]
