"""Numbers for a monitoring system: for whoever is on this machine, and for operators of all tenants."""

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST

from audit.metrics import render
from portal.middleware import is_direct


@require_GET
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """The log's numbers in Prometheus' format.

    Raises:
        Http404: the request came through the proxy, and not from one who operates every tenant: the names of
            witnesses are those of tenants' machines.
    """
    if not (is_direct(request) or _operates_all(request)):
        raise Http404
    return HttpResponse(render(), content_type=CONTENT_TYPE_LATEST)


def _operates_all(request: HttpRequest) -> bool:
    return admin.site.has_permission(request) and request.user.has_perm("tenants.operate_tenant")
