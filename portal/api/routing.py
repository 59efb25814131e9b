"""The way to a tenant's machine, for the command line."""

from django.http import Http404
from django.urls import path
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.context import Actor
from portal.api.parsing import BoundedJSONParser
from portal.routing import RouteRefused, route_open
from tenants.selectors import tenants_for
from tenants.sites import tenant_origin


class TenantEnter(APIView):
    """Ask for a URL on the machine's own origin."""

    parser_classes = (BoundedJSONParser,)

    def post(self, request: Request, slug: str) -> Response:
        """200 with a URL that is good once; 403 with the reason."""
        found = tenants_for(request.user).filter(slug=slug).first()
        if found is None:
            raise Http404
        try:
            url = route_open(
                actor=Actor.of(request.user), tenant=found, session_key=request.session.session_key or ""
            )
        except RouteRefused as refusal:
            told = {"code": refusal.code, "detail": refusal.message}
            return Response(told, status.HTTP_403_FORBIDDEN)
        return Response({"url": url, "origin": tenant_origin(found)})


urlpatterns = [path("tenants/<slug:slug>/enter/", TenantEnter.as_view(), name="api-tenant-enter")]
