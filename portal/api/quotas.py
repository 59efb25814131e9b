"""What a tenant may use and uses."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api.tenants import TenantView
from portal.quotas import document, quotas_of


class QuotasView(TenantView):
    """For who may know of the tenant."""

    def get(self, _request: Request, slug: str) -> Response:
        """The plan's limits, what the machine has of them, what is used, and what is still to be applied."""
        return Response(document(quotas_of(self.tenant(slug))))


urlpatterns = [path("tenants/<slug:slug>/quotas/", QuotasView.as_view(), name="api-quotas")]
