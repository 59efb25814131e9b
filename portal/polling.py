"""For fragments that htmx fetches again and again: what to do when there is nothing left to fetch."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django_htmx.http import HttpResponseClientRedirect, HttpResponseClientRefresh

View = Callable[..., HttpResponseBase]
Rule = Callable[[HttpRequest], bool]


def signed_in(request: HttpRequest) -> bool:
    """Whether a person is behind the request."""
    return request.user.is_authenticated


def polled(view: View, allowed: Rule = signed_in) -> View:
    """Wrap a view so that htmx moves the whole page, never a strange page into a part of it.

    A session that has ended leads to the sign-in page and back; an object that is gone reloads the
    page, which then says so. Requests that are not htmx's pass untouched.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.headers.get("HX-Request") != "true":
            return view(request, *args, **kwargs)
        if not allowed(request):
            return HttpResponseClientRedirect(redirect_to_login(_page(request)).url)
        try:
            return view(request, *args, **kwargs)
        except Http404:
            return HttpResponseClientRefresh()

    return wrapper


def _page(request: HttpRequest) -> str:
    """The path of the page that the part stands in, by the browser's word."""
    try:
        path = urlsplit(request.headers.get("HX-Current-URL", "")).path
    except ValueError:
        return "/"
    return path if path.startswith("/") else "/"
