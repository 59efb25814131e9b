"""Gives every audit entry the request that caused it."""

from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

from audit.context import bind


class AuditContextMiddleware:
    """Binds the request id that django-structlog chose. The client's address is not recorded yet."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = str(structlog.contextvars.get_contextvars().get("request_id", ""))[:64]
        with bind(request_id=request_id):
            return self.get_response(request)
