"""Limits on API requests: each person's, each address's, and the plan's, of all members of a tenant together.

The plan's comes last wherever it is asked, and the others refuse at once: a request that one of them refuses
costs the tenant nothing, so that nobody can use up a minute of everybody's alone.
"""

from typing import TYPE_CHECKING, Any, cast

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.db.models import Q
from django.utils.connection import ConnectionProxy
from rest_framework.exceptions import ErrorDetail, Throttled
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, SimpleRateThrottle, UserRateThrottle

from audit.context import Actor
from portal.rates import API, RateExceeded, note_refusal, spend
from portal.refusals import mark
from tenants.models import Tenant
from tenants.selectors import tenants_of_member

if TYPE_CHECKING:  # the module of views reads this one while it is itself being read
    from rest_framework.views import APIView


class SharedThrottle(SimpleRateThrottle):
    """Counts over all web processes together; whoever is refused here is asked nothing more."""

    cache = cast(BaseCache, ConnectionProxy(caches, "shared"))

    def throttle_failure(self) -> bool:
        """Never returns.

        Raises:
            Throttled: the limit is reached. The framework would go on to the next limit, and have it counted.
        """
        raise Throttled(self.wait())


class AddressThrottle(SharedThrottle, AnonRateThrottle):
    """For what strangers may call."""


class PersonThrottle(SharedThrottle, UserRateThrottle):
    """Whatever the person asks for."""


class WriteThrottle(PersonThrottle):
    """Counts what changes something; reading is free of it. To be asked before the tenant's."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Whether this one may pass."""
        return request.method in {"GET", "HEAD", "OPTIONS"} or super().allow_request(request, view)


class TenantRateThrottle(BaseThrottle):
    """429 with ``Retry-After`` once a tenant has used up its minute. Strangers and staff spend none of it."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """True, or else raises.

        Raises:
            Throttled: the plan's limit is reached.
        """
        tenant = _tenant(request, view.kwargs)
        if tenant is None:
            return True
        try:
            spend(API, tenant.pk, tenant.plan.api_per_minute)
        except RateExceeded as refused:
            mark(request._request, "")
            note_refusal(actor=Actor.of(request.user), tenant_id=tenant.pk, refused=refused)
            refusal = Throttled(refused.wait)
            refusal.detail = ErrorDetail(str(refused), refusal.default_code)  # it says when, too
            raise refusal from None
        return True


def _tenant(request: Request, named: dict[str, Any]) -> Tenant | None:
    """The tenant that the URL is about, if the caller is its member."""
    if "slug" in named:
        about = Q(slug=named["slug"])
    elif "pk" in named:
        about = Q(runtimes=named["pk"]) | Q(runtimes__operations=named["pk"])
    else:
        return None
    return tenants_of_member(request.user).filter(about).select_related("plan").first()
