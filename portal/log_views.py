"""The log as C2SP tlog-tiles serves it: whoever is signed in may watch the tree grow."""

import re
from collections.abc import Callable
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.cache import caches
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from audit import proofs
from audit.bodies import entry_bundle
from audit.context import Actor
from audit.proofs import note_of
from audit.services import record
from portal.rates import BUNDLES, RateExceeded, spend
from portal.staff_record.asked import scope_of
from protocol.tiles import TILE_WIDTH, TileError, entries_path, tile_path

_NUMBER = r"(?P<number>(?:x\d{3}/){0,5}\d{3})(?:\.p/(?P<width>\d{1,3}))?"
_TILE = re.compile(rf"(?P<level>\d{{1,2}})/{_NUMBER}", re.ASCII)
_ENTRIES = re.compile(rf"entries/{_NUMBER}", re.ASCII)


@login_required
@require_GET
@never_cache
def checkpoint(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - a view
    """The newest signed head, with the signatures of witnesses outside: no tenant's machine is named."""
    found = proofs.latest()
    if found is None:
        raise Http404
    return HttpResponse(note_of(found), content_type="text/plain; charset=utf-8")


BUNDLES_PER_MINUTE = 120
"""Of one person: a copy of the log is taken in bundles of 256 entries."""
TOGETHER_SECONDS = 600


@login_required
@require_GET
def tile(request: HttpRequest, where: str) -> HttpResponse:
    """Hashes, or a bundle of entries for operators of all tenants; anything else is not there."""
    if found := _TILE.fullmatch(where):
        level, index, width = int(found["level"]), _index(found["number"]), int(found["width"] or TILE_WIDTH)
        return _answer(
            where, lambda: tile_path(level, index, width), lambda: proofs.read_tile(level, index, width)
        )
    found = _ENTRIES.fullmatch(where)
    if found is None or not _may_read_entries(request):
        raise Http404
    try:
        spend(BUNDLES, UUID(int=request.user.pk or 0), BUNDLES_PER_MINUTE)
    except RateExceeded as refused:
        words = f"{BUNDLES_PER_MINUTE} bundles a minute are the most. Try again in {refused.wait} s."
        return HttpResponse(
            words, status=429, content_type="text/plain", headers={"Retry-After": str(refused.wait)}
        )
    _note(request)
    index, width = _index(found["number"]), int(found["width"] or TILE_WIDTH)
    return _answer(where, lambda: entries_path(index, width), lambda: entry_bundle(index, width))


def _note(request: HttpRequest) -> None:
    """Put on record that this person takes the log, once in ten minutes, before the first bundle is read."""
    taken = f"exported:{request.user.pk}:bundles"
    if caches["shared"].get(taken):
        return
    with transaction.atomic():
        record(
            action="record.exported",
            actor=Actor.of(request.user),
            target=("page", "log-tile"),
            data={"form": "bundles"},
        )
    # After the entry, as for looks: one that could not be recorded is not taken for one that was.
    caches["shared"].set(taken, 1, timeout=TOGETHER_SECONDS)


def _may_read_entries(request: HttpRequest) -> bool:
    return request.user.has_perm("audit.view_entry") and scope_of(request.user) is None


def _answer(where: str, named: Callable[[], str], made: Callable[[], bytes]) -> HttpResponse:
    """Each tile has one address only: another spelling of it is not there."""
    try:
        if named() != f"tile/{where}":
            raise Http404
        data = made()
    except TileError:
        raise Http404 from None
    response = HttpResponse(data, content_type="application/octet-stream")
    response["Cache-Control"] = "private, max-age=31536000, immutable"  # what is in a tile never changes
    return response


def _index(number: str) -> int:
    return int(number.replace("x", "").replace("/", ""))
