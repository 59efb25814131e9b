"""The record's pages in the staff's site."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from audit.admin import ReadOnlyAdmin
from audit.context import Actor
from audit.models import Entry
from portal.selectors import entries_for
from portal.staff_record import downloads, one, pages


class StaffRecord(ReadOnlyAdmin[Entry]):
    """The record, as far as it concerns the tenants that this person operates."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        """Only what this person may know of."""
        return entries_for(request.user)

    def get_urls(self) -> list[URLPattern]:
        """The live tail, downloads and personal data."""
        own: dict[str, tuple[Callable[..., HttpResponseBase], str]] = {
            "tail/": (self.tail_view, "tail"),
            "export/": (self.export_view, "export"),
            "<str:object_id>/receipt/": (self.receipt_view, "receipt"),
            "<str:object_id>/personal/": (self.personal_view, "personal"),
        }
        made = [
            path(where, self.admin_site.admin_view(view), name=f"audit_entry_{name}")
            for where, (view, name) in own.items()
        ]
        return [*made, *super().get_urls()]

    @method_decorator(require_GET)
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The search."""
        self._may_look(request)
        return pages.list_page(request, {**self.admin_site.each_context(request), "title": "Audit entries"})

    @method_decorator(never_cache)
    @method_decorator(require_GET)
    def tail_view(self, request: HttpRequest) -> HttpResponse:
        """What has come since."""
        self._may_look(request)
        return pages.tail_rows(request)

    @method_decorator(require_POST)
    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """JSON Lines."""
        self._may_look(request)
        return downloads.export(request)

    @method_decorator(require_GET)
    def receipt_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The entry with its proof."""
        return downloads.receipt(self.get_object(request, object_id))

    @method_decorator(require_GET)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One entry."""
        return self._page(request, self.get_object(request, object_id), {})

    @method_decorator(never_cache)
    @method_decorator(require_POST)
    def personal_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The same page with the personal data, once it is on record that somebody looked."""
        entry = self.get_object(request, object_id)
        if not request.user.has_perms(one.MAY_OPEN):
            raise PermissionDenied
        return self._page(request, entry, {"opened": one.opened(Actor.of(request.user), entry)})

    def _page(self, request: HttpRequest, entry: Entry, more: dict[str, Any]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Entry {entry.pk}",
            "subtitle": None,
            "entry": entry,
            **one.context_of(request, entry),
            **more,
        }
        return TemplateResponse(request, "admin/audit/entry/change_form.html", context)

    def _may_look(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied
