"""The staff's site: stock Django admin, our words, our sign-in page, a front page that shows trouble."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from provisioning.models import Host, Operation, Runtime
from provisioning.selectors import operations_for, runtimes_for


class PortalAdminSite(AdminSite):
    """One sign-in page for everybody; the admin has none of its own."""

    site_header = "Managed host portal"
    site_title = "Managed host portal"
    index_title = "Fleet"

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send people to the portal's sign-in page; those signed in without staff rights are refused."""
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next", request.path))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The front page: hosts, what is under way, what has failed."""
        runtimes = runtimes_for(request.user)
        fleet = {
            "hosts": Host.objects.all(),
            "active": operations_for(request.user).filter(state__in=Operation.ACTIVE)[:20],
            "failed": runtimes.filter(phase=Runtime.Phase.FAILED)[:20],
            "ready": runtimes.filter(phase=Runtime.Phase.READY).count(),
            "total": runtimes.exclude(phase=Runtime.Phase.DELETED).count(),
        }
        return super().index(request, {**(extra_context or {}), "fleet": fleet})
