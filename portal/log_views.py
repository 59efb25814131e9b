"""The log as C2SP tlog-tiles serves it: whoever is signed in may watch the tree grow."""

import re
from collections.abc import Callable

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from audit import proofs
from audit.bodies import entry_bundle
from audit.proofs import note_of
from portal.staff_record.asked import scope_of
from protocol.tiles import TILE_WIDTH, TileError, entries_path, tile_path

_NUMBER = r"(?P<number>(?:x\d{3}/){0,5}\d{3})(?:\.p/(?P<width>\d{1,3}))?"
_TILE = re.compile(rf"(?P<level>\d{{1,2}})/{_NUMBER}", re.ASCII)
_ENTRIES = re.compile(rf"entries/{_NUMBER}", re.ASCII)


@login_required
@require_GET
@never_cache
def checkpoint(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - a view
    """The newest signed head, with the signatures of witnesses outside: machines are named to their own only."""
    found = proofs.latest()
    if found is None:
        raise Http404
    return HttpResponse(note_of(found), content_type="text/plain; charset=utf-8")


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
    index, width = _index(found["number"]), int(found["width"] or TILE_WIDTH)
    return _answer(where, lambda: entries_path(index, width), lambda: entry_bundle(index, width))


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
