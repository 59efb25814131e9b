"""The staff's site: stock Django admin, our words, our sign-in page, a front page that shows trouble."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Case, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from audit.alerts import everywhere, loud
from audit.context import Actor
from audit.services import record
from portal.breakglass.front import front_page
from portal.polling import polled
from provisioning.drift.findings import Severity
from provisioning.models import Host, Operation, Runtime
from provisioning.selectors import drift_for, operations_for, runtimes_for

GRAVEST_FIRST = Case(
    When(severity=Severity.QUARANTINE, then=0), When(severity=Severity.ALERT, then=1), default=2
)


class PortalAdminSite(AdminSite):
    """One sign-in page for everybody; the admin has none of its own."""

    site_header = "Managed host portal"
    site_title = "Managed host portal"
    index_title = "Fleet"

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send people to the portal's sign-in page; those signed in without staff rights are refused."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """End the session in one transaction with its entry."""
        with transaction.atomic():
            return super().logout(request, extra_context)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Change one's own password, in one transaction with its entry."""
        with transaction.atomic():
            response = super().password_change(request, extra_context)
            if request.method == "POST" and response.status_code == 302:
                record(
                    action="user.password_changed",
                    actor=Actor.of(request.user),
                    target=("user", request.user.pk),
                )
            return response

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """On every page: what may mean that somebody rewrites the record. Asked for when the page is made."""
        staff = self.has_permission(request)
        return {**super().each_context(request), "record_alarms": loud if staff else list}

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Django's guard, and whole-page answers for parts that htmx fetches."""
        return polled(super().admin_view(view, cacheable), self.has_permission)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The front page: hosts, what is under way, what has failed."""
        runtimes, wrong = runtimes_for(request.user), everywhere()
        fleet = {
            "hosts": Host.objects.all() if request.user.has_perm("provisioning.view_host") else None,
            "active": operations_for(request.user)
            .prefetch_related(None)
            .filter(state__in=Operation.ACTIVE)[:20],
            "drift": drift_for(request.user)
            .filter(cleared_at=None)
            .exclude(severity=Severity.NOTE)
            .order_by(GRAVEST_FIRST, "-found_at")[:20],
            "quarantined": runtimes.filter(phase=Runtime.Phase.QUARANTINED)[:20],
            "record": wrong,
            "break_glass": front_page(request.user),
            "failed": runtimes.filter(phase=Runtime.Phase.FAILED)[:20],
            "ready": runtimes.filter(phase=Runtime.Phase.READY).count(),
            "total": runtimes.exclude(phase=Runtime.Phase.DELETED).count(),
        }
        # The page shows all that is wrong; what stands on every page is among it and not asked again.
        alarms = [one for one in wrong if one.severity == "loud"]
        return super().index(request, {**(extra_context or {}), "fleet": fleet, "record_alarms": alarms})
