"""What stands around every request: who really asks, which host is asked, and what the record is told."""

from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from audit.context import Actor, bind, session_name
from portal.routing import slug_of

_OWN = {"", "127.0.0.1", "::1"}


def is_direct(request: HttpRequest) -> bool:
    """Whether it was asked from this machine, past the proxy, which marks all that it passes on."""
    return "Portal-Address" not in request.headers and request.META.get("REMOTE_ADDR", "") in _OWN


class ProxyMiddleware:
    """Takes the caller's address from nginx, which alone reaches this process from elsewhere.

    nginx overwrites the header, so nobody outside can choose it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        told = request.headers.get("Portal-Address", "")
        if told and request.META.get("REMOTE_ADDR", "") in _OWN:
            request.META["REMOTE_ADDR"] = told[:45]
        return self.get_response(request)


class OriginMiddleware:
    """Gives a runtime's origin its own few URLs: no page of the portal is served where a guest is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        slug = slug_of(request.get_host())
        if slug:
            request.urlconf = settings.RUNTIME_URLCONF
            request.runtime_slug = slug  # type: ignore[attr-defined]
        return self.get_response(request)


class AuditContextMiddleware:
    """Tells the record where a request comes from: its id, the caller's address, who is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with bind(
            # Made here by django-structlog, never the caller's own: any text could be in that.
            request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
            address=request.META.get("REMOTE_ADDR", ""),
            session=lambda: session_name(request.session.session_key),
            asker=lambda: Actor.of(request.user),
        ):
            return self.get_response(request)
