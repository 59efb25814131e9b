"""The page of the record, and the rows that a live tail adds to it."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit import index
from audit.models import Entry, Leaf
from audit.search import NEAR_MOST, Cursor, Found, search
from audit.tail import Tail, tail
from portal.staff_record.asked import SearchForm, scope_of
from portal.staff_record.rows import rows_of


def list_page(request: HttpRequest, extra: dict[str, Any]) -> HttpResponse:
    """One page of what was asked for, the newest first."""
    form = SearchForm(request.GET, person=request.user)
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
        "tail": Tail([], _size(), 0) if following else None,
        "behind": _behind() if asked else 0,
    }
    return TemplateResponse(
        request, "admin/audit/entry/change_list.html", context, status=400 if problem else 200
    )


def tail_rows(request: HttpRequest) -> HttpResponse:
    """What has come since, as rows; with ``pause``, only the row that says so."""
    form = SearchForm(request.GET, person=request.user)
    after = request.GET.get("from", "")
    if not form.is_valid() or not (after.isascii() and after.isdigit() and len(after) < 19):
        return HttpResponse("Give a valid search, and from: a place in the log.", status=400)
    paused = request.GET.get("pause") == "1"
    found = Tail([], int(after), 0) if paused else tail(form.filters, int(after))
    context = {
        "rows": rows_of(found.entries),
        "tail": found,
        "paused": paused,
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


def _behind() -> int:
    """How many of the newest entries a page may miss because the index lags so far; 0 if all is well."""
    newest = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    behind = newest - index.top()
    return behind if behind > NEAR_MOST else 0
