"""Connector secrets, sealed by whoever sends them: the calls that GitHub's users know from there."""

import base64
import binascii
from typing import Any

from django.http import Http404
from django.urls import path
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit.context import Actor
from portal.api.tenants import TenantView
from portal.secrets import SealingKey, accept, entry, listed, present_runtime
from portal.throttles import WriteThrottle
from tenants.models import ConnectorSecret
from tenants.services import secret_revoke


class SecretsThrottle(WriteThrottle):
    """Each write is work for a worker and a restart in the guest."""

    scope = "secrets"


class SecretRequest(serializers.Serializer[Any]):
    encrypted_value = serializers.CharField(max_length=48 * 1024)
    key_id = serializers.CharField(max_length=16)
    connector = serializers.CharField(max_length=16, default=ConnectorSecret.Connector.GITHUB)

    def validate_encrypted_value(self, value: str) -> bytes:
        """Standard base64."""
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise serializers.ValidationError("Give the sealed box in standard base64.") from None


class SecretsView(TenantView):
    """Who may know of the tenant may see names and states."""

    throttle_classes = (SecretsThrottle, *TenantView.throttle_classes)

    def get(self, _request: Request, slug: str) -> Response:
        """One entry for each name."""
        found = listed(self.tenant(slug))
        return Response({"total_count": len(found), "secrets": found})


class PublicKeyView(SecretsView):
    """What to seal to."""

    def get(self, _request: Request, slug: str) -> Response:
        """The machine's own key, as it states it; 409 while it has stated none."""
        key = SealingKey.of(present_runtime(self.tenant(slug)))
        return Response({"key_id": key.id, "key": key.base64})


class SecretView(SecretsView):
    """One secret, by its name."""

    def get(self, _request: Request, slug: str, name: str = "") -> Response:
        """Its newest version; 404 if there never was one."""
        found = [one for one in listed(self.tenant(slug)) if one["name"] == name]
        if not found:
            raise Http404
        return Response(found[0])

    def put(self, request: Request, slug: str, name: str) -> Response:
        """201 for a first version, 200 for a later one."""
        tenant = self.tenant(slug)
        wanted = SecretRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        secret = accept(
            actor=Actor.of(self.person()),
            tenant=tenant,
            name=name,
            connector=given["connector"],
            sealing_key=given["key_id"],
            sealed=given["encrypted_value"],
        )
        first = secret.version == 1
        return Response(entry(secret), status.HTTP_201_CREATED if first else status.HTTP_200_OK)

    def delete(self, _request: Request, slug: str, name: str) -> Response:
        """Revoke: 200 with the state; ``revoked`` once the machine has confirmed."""
        tenant = self.tenant(slug)
        try:
            secret = secret_revoke(actor=Actor.of(self.person()), tenant=tenant, name=name)
        except ConnectorSecret.DoesNotExist:
            raise Http404 from None
        return Response(entry(secret))


urlpatterns = [
    path("tenants/<slug:slug>/secrets/", SecretsView.as_view(), name="api-secrets"),
    path("tenants/<slug:slug>/secrets/public-key/", PublicKeyView.as_view(), name="api-secrets-key"),
    path("tenants/<slug:slug>/secrets/<slug:name>/", SecretView.as_view(), name="api-secret"),
]
