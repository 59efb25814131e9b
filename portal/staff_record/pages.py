"""The page of the record, and the rows that a live tail adds to it."""

import re
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit import index
from audit.models import Entry, Leaf
from audit.search import NEAR_MOST, PAGE, Cursor, Found, search
from audit.tail import Tail, tail
from portal.staff_record.asked import SearchForm, scope_of
from portal.staff_record.rows import rows_of

_IDS = re.compile(rf"[0-9]{{1,18}}(,[0-9]{{1,18}}){{0,{PAGE - 1}}}")


def list_page(request: HttpRequest, extra: dict[str, Any]) -> HttpResponse:
    """One page of what was asked for, the newest first."""
    form = SearchForm(request.GET, person=request.user)
    size = _size()  # before the search: what enters the tree meanwhile is for the tail
    found, problem = _found(form, request)
    asked = form.asked()
    following = request.GET.get("follow") == "1" and found is not None
    context = {
        **extra,
        "form": form,
        "problem": problem,
        "asked": asked,
        "query": urlencode(asked),
        "rows": rows_of(found.entries) if found else [],
        "found": found,
        "at_top": not (request.GET.get("before") or request.GET.get("after")),
        "upward": bool(request.GET.get("after")),
        "may_take_all": scope_of(request.user) is None,
        "tail": Tail([], size, 0) if following else None,
        "early": _early(found.entries, size) if following and found else "",
        "behind": _behind() if asked else 0,
    }
    return TemplateResponse(
        request, "admin/audit/entry/change_list.html", context, status=400 if problem else 200
    )


def tail_rows(request: HttpRequest) -> HttpResponse:
    """What has come since, as rows; with ``pause``, only the row that says so."""
    form = SearchForm(request.GET, person=request.user)
    after = request.GET.get("from", "")
    early = request.GET.get("early", "")
    wrong = not (after.isascii() and after.isdigit() and len(after) < 19) or (
        early and not _IDS.fullmatch(early)
    )
    if wrong or not form.is_valid():
        return HttpResponse("Give a valid search, and from: a place in the log.", status=400)
    paused = request.GET.get("pause") == "1"
    shown = [int(pk) for pk in early.split(",") if pk]
    found = Tail([], int(after), 0) if paused else tail(form.filters, int(after), but=shown)
    context = {
        "rows": rows_of(found.entries),
        "tail": found,
        "paused": paused,
        "early": early,
        "query": urlencode(form.asked()),
    }
    return TemplateResponse(request, "admin/audit/entry/_tail.html", context)


def _found(form: SearchForm, request: HttpRequest) -> tuple[Found | None, str]:
    if not form.is_valid():
        return None, "Nothing was searched: correct the marked fields."
    try:
        cursor = Cursor.of(request.GET.get("before", ""), request.GET.get("after", ""))
    except ValueError as problem:
        return None, str(problem)
    return search(form.filters, cursor), ""


def _size() -> int:
    newest = Leaf.objects.order_by("-index").values_list("index", flat=True).first()
    return 0 if newest is None else newest + 1


def _early(entries: list[Entry], size: int) -> str:
    """Ids of what the page shows and the tail from ``size`` on would show again."""
    inside = Leaf.objects.filter(entry__in=entries, index__lt=size).values_list("entry_id", flat=True)
    return ",".join(str(pk) for pk in sorted({entry.pk for entry in entries} - set(inside)))


def _behind() -> int:
    """How many of the newest entries a page may miss because the index lags so far; 0 if all is well."""
    newest = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    behind = newest - index.top()
    return behind if behind > NEAR_MOST else 0
