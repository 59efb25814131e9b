"""The portal's URLs and one more, of which the tables know nothing."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from portal.urls import urlpatterns as ours


def unheard_of(request: HttpRequest) -> HttpResponse:
    """Takes everything."""
    return HttpResponse("changed")


urlpatterns = [*ours, path("unheard-of", unheard_of, name="unheard-of")]
