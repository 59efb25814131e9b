"""Refused attempts in the record, and how nobody can fill the record with them.

Each refusal is an entry of its own while its asker's budget of the minute lasts: strangers have one budget
all together, each person who is signed in has their own. What is beyond it is only counted, by all web
processes together, and a task writes the count once a minute. So however hard somebody knocks, strangers
add a fixed number of entries a minute, and no refusal is missing from the sum.
"""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.cache import caches
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.csrf import csrf_failure

from audit.context import SYSTEM, Actor
from audit.services import record

STRANGERS, PERSON = 20, 30
"""Entries a minute."""
WINDOW = 60
"""Seconds."""
REASONS = {401: "not_signed_in", 403: "forbidden", 404: "not_found", 429: "too_many_requests"}
"""What is a refusal, and what it is called where the view has no better word."""
MARK = "portal.refused"
"""In ``request.META``: the view's own word; empty if the view has written the entry itself."""
GROUPS = ("strangers", "people")
_COUNT_LASTS = 24 * 3600


@transaction.atomic
def refused(
    *,
    action: str,
    actor: Actor,
    tenant_id: UUID | None = None,
    target: tuple[str, object] = ("", ""),
    data: dict[str, Any] | None = None,
) -> bool:
    """Write the entry of a refusal, or count it. True if it was written."""
    stranger = actor.kind != "user"
    if not _within(f"{actor.kind}:{actor.id}", STRANGERS if stranger else PERSON):
        _count(GROUPS[0] if stranger else GROUPS[1])
        return False
    record(action=action, actor=actor, tenant_id=tenant_id, target=target, data=data)
    return True


@transaction.atomic
def write_counts() -> dict[str, int]:
    """Put on record how many refusals were only counted since the last time; nothing if there were none.

    A worker that dies after the entry and before the counters are lowered has them counted once more.
    """
    cache = caches["shared"]
    strangers, people = (int(cache.get(_counter(group), 0) or 0) for group in GROUPS)
    if strangers or people:
        data = {"strangers": strangers, "people": people}
        record(action="request.refusals_counted", actor=SYSTEM, data=data)
        transaction.on_commit(lambda: _lower(data))
    return {"strangers": strangers, "people": people}


class RefusalMiddleware:
    """Records each answer that refuses. Stands in the audit context, around everything that may refuse."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.get_response(request)
        word = request.META.get(MARK, REASONS.get(response.status_code, ""))
        if response.status_code in REASONS and word:
            self._record(request, response, word)
        return response

    def _record(self, request: HttpRequest, response: HttpResponse, word: str) -> None:
        from portal.places import place_of  # reads models, which are not ready when middleware is imported

        place = place_of(request)
        actor = request.META.get("portal.actor") or Actor.of(request.user)
        refused(
            action="request.refused",
            actor=actor,
            # A tenant's record is its own people's: a stranger who knows its name writes nothing into it.
            # The target says to staff whose door it was.
            tenant_id=place.tenant_id if _belongs(actor, place.tenant_id) else None,
            target=place.target,
            data={
                "status": response.status_code,
                "code": "locked_out" if getattr(request, "axes_locked_out", False) else word,
                "method": request.method if request.method in _METHODS else "other",
                "route": place.route,
            },
        )


def _belongs(actor: Actor, tenant_id: UUID | None) -> bool:
    """Whether the tenant is one that the person may know of."""
    from django.contrib.auth.models import User

    from tenants.selectors import tenants_for

    if tenant_id is None or actor.kind != "user":
        return False
    person = User.objects.filter(pk=actor.id).first()
    return person is not None and tenants_for(person).filter(pk=tenant_id).exists()


_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


def without_token(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's answer to a form without its CSRF token, with a word for the record."""
    mark(request, "csrf")
    return csrf_failure(request, reason=reason)


def mark(request: HttpRequest, word: str) -> None:
    """Say why a request is refused; with an empty word, that its entry is written already."""
    request.META[MARK] = word


def _within(who: str, limit: int) -> bool:
    """Take one from this minute's budget."""
    cache, key = caches["shared"], f"refusals:{who}"
    if cache.add(key, 1, timeout=WINDOW):
        return True
    try:
        return int(cache.incr(key)) <= limit
    except ValueError:
        return True  # the minute ended in this very moment


def _count(group: str) -> None:
    cache = caches["shared"]
    cache.add(_counter(group), 0, timeout=_COUNT_LASTS)
    with suppress(ValueError):
        cache.incr(_counter(group))


def _lower(counted: dict[str, int]) -> None:
    for group, number in counted.items():
        with suppress(ValueError):
            caches["shared"].incr(_counter(group), -number)


def _counter(group: str) -> str:
    return f"refusals-counted:{settings.FLEET_ID}:{group}"
