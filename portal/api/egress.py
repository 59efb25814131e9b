"""A machine's outside connections, for the command line and for scripts."""

from django.urls import path
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api.tenants import TenantView
from portal.outside import Asked, entry, records, way_out


class EgressView(TenantView):
    """Who may know of the tenant may see what its machine reaches."""

    def get(self, request: Request, slug: str) -> Response:
        """What it may reach, and one page of what it tried, the newest first.

        ``?verdict=refused`` leaves the rest out; ``?before=``, an answer's ``next``, gives the page after it.
        """
        tenant = self.tenant(slug)
        try:
            asked = Asked.of(request.GET.get("verdict", ""), request.GET.get("before", ""))
        except ValueError as error:
            raise ParseError(str(error)) from None
        rows, following = records(self.person(), tenant, asked)
        return Response({**way_out(tenant), "records": [entry(row) for row in rows], "next": following})


urlpatterns = [path("tenants/<slug:slug>/egress/", EgressView.as_view(), name="api-egress")]
