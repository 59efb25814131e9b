"""What a tenant's machine may reach: everybody of the tenant reads, owners switch, operators allow."""

from typing import Any

from django.http import Http404
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.context import Actor
from portal.api.tenants import TenantView
from portal.connectors import Standing, entry, in_force_since, standings
from portal.throttles import WriteThrottle
from tenants.models import Tenant
from tenants.services import connector_allow, connector_disable, connector_enable, connector_forbid

SERVICES = {
    ("allowed", True): connector_allow,
    ("allowed", False): connector_forbid,
    ("enabled", True): connector_enable,
    ("enabled", False): connector_disable,
}


class ConnectorsThrottle(WriteThrottle):
    """Each change has a proxy read its rules again."""

    scope = "connectors"


class ConnectorChange(serializers.Serializer[Any]):
    allowed = serializers.BooleanField(required=False)
    enabled = serializers.BooleanField(required=False)

    def validate(self, given: dict[str, bool]) -> dict[str, bool]:
        """One thing at a time: the two are different people's business."""
        if len(given) != 1:
            raise serializers.ValidationError("Give one of: allowed, enabled.")
        return given


class ConnectorsView(TenantView):
    """Who may know of the tenant may see what its machine reaches."""

    throttle_classes = (ConnectorsThrottle, *TenantView.throttle_classes)

    def get(self, _request: Request, slug: str) -> Response:
        """One entry for each connector, and since when the proxy keeps to all of them."""
        tenant = self.tenant(slug)
        found, since = standings(tenant), in_force_since(tenant)
        return Response(
            {
                "total_count": len(found),
                "in_force_since": since.isoformat() if since else None,
                "connectors": [entry(one) for one in found],
            }
        )


class ConnectorView(ConnectorsView):
    """One connector, by its short name."""

    def get(self, _request: Request, slug: str, connector: str = "") -> Response:
        """How it stands; 404 if there is none of this name."""
        return Response(entry(self._one(self.tenant(slug), connector)))

    def patch(self, request: Request, slug: str, connector: str) -> Response:
        """Change ``allowed`` or ``enabled``; asked for again, nothing changes."""
        tenant = self.tenant(slug)
        self._one(tenant, connector)
        wanted = ConnectorChange(data=request.data)
        wanted.is_valid(raise_exception=True)
        ((name, value),) = wanted.validated_data.items()
        SERVICES[name, value](actor=Actor.of(self.person()), tenant=tenant, connector=connector)
        return Response(entry(self._one(tenant, connector)))

    def _one(self, tenant: Tenant, connector: str) -> Standing:
        found = [one for one in standings(tenant) if one.spec.slug == connector]
        if not found:
            raise Http404
        return found[0]


urlpatterns = [
    path("tenants/<slug:slug>/connectors/", ConnectorsView.as_view(), name="api-connectors"),
    path("tenants/<slug:slug>/connectors/<slug:connector>/", ConnectorView.as_view(), name="api-connector"),
]
