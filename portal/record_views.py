"""The pages of a tenant's record."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from audit import log
from audit.context import Actor
from portal.record import exporting, proving
from portal.record.asked import CHANGES, Asked, WrongQuestion, number
from portal.record.entry import entry_page
from portal.record.heads import current
from portal.record.proving import NotProved
from portal.record.reading import Line, line, record_page
from tenants.models import Tenant
from tenants.selectors import tenants_for


@login_required
@require_GET
@never_cache
def tenant_record(request: HttpRequest, slug: str) -> HttpResponse:
    """What was done about the tenant, by whom and when."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    context: dict[str, Any] = {"tenant": found}
    try:
        asked = question(request.GET)
    except WrongQuestion as error:
        asked = Asked(topic=CHANGES)
        context["problem"] = str(error)
    context |= record_page(found, asked, shown="problem" not in context)
    return render(request, "portal/record.html", context, status=400 if "problem" in context else 200)


@login_required
@require_GET
@never_cache
def tenant_record_entry(request: HttpRequest, slug: str, entry: int) -> HttpResponse:
    """One entry and its proof."""
    found, shown = _entry(request, slug, entry)
    context = {"tenant": found, **entry_page(request.user, found, shown), "key": str(log.vkey())}
    return render(request, "portal/record_entry.html", context)


@login_required
@require_GET
@never_cache
def tenant_record_receipt(request: HttpRequest, slug: str, entry: int) -> HttpResponse:
    """The receipt, as a file; the entry's page says why, if there is none yet."""
    found, shown = _entry(request, slug, entry)
    try:
        made = proving.receipt(request.user, found, shown.entry)
    except NotProved as refusal:
        messages.error(request, str(refusal))
        return redirect("tenant-record-entry", slug=slug, entry=entry)
    return _file(made.to_json() + "\n", f"{slug}-{made.proof.index}.receipt.json", "application/json")


@login_required
@require_POST
def tenant_record_export(request: HttpRequest, slug: str) -> HttpResponseBase:
    """All entries of a question with their proofs, as a file; that it was asked for is on record."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    try:
        asked = question(request.POST)
        lines, _following = exporting.begin(reader=request.user, tenant=found, asked=asked)
    except (WrongQuestion, NotProved) as error:
        messages.error(request, str(error))
        return redirect("tenant-record", slug=slug)
    response = StreamingHttpResponse(lines, content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{slug}-record.jsonl"'
    return response


@login_required
@require_http_methods(["GET", "POST"])
@never_cache
def tenant_record_checkpoint(request: HttpRequest, slug: str) -> HttpResponse:
    """The log's newest head, who has witnessed it, and whether it continues one that somebody has kept."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    context: dict[str, Any] = {"tenant": found, "kept": ""}
    if request.method == "POST":
        context["kept"] = request.POST.get("checkpoint", "").replace("\r\n", "\n").strip() + "\n"
        try:
            context["proved"] = proving.since(
                actor=Actor.of(request.user), tenant=found, kept=context["kept"]
            )
        except NotProved as refusal:
            context |= {"refusal": str(refusal), "forked": refusal.code == "forked"}
    context |= {"head": current(found), "key": str(log.vkey())}
    return render(request, "portal/record_checkpoint.html", context)


@login_required
@require_GET
@never_cache
def tenant_record_download(request: HttpRequest, slug: str) -> HttpResponse:
    """The newest checkpoint as a file; with ``old`` and ``size`` the proof between two."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    try:
        old, size = (number(request.GET.get(name, ""), name) for name in ("old", "size"))
        if old is None:
            newest = proving.newest(found) if size is None else proving.exact(found, size)
            return _file(newest.note, f"checkpoint-{newest.size}.txt", "text/plain; charset=utf-8")
        made = proving.consistency(found, old, size)
    except (WrongQuestion, NotProved) as error:
        messages.error(request, str(error))
        return redirect("tenant-record-checkpoint", slug=slug)
    return _file(made.proof, f"proof-{made.old}-{made.size}.txt", "text/plain; charset=utf-8")


def question(given: Any) -> Asked:
    """What a query or form asks for; the changes, where it says nothing. Raises WrongQuestion."""
    told = {name: given.get(name, "") for name in ("since", "until", "before")}
    return Asked.of(topic=given.get("topic", CHANGES), **told)


def _file(content: str, name: str, kind: str) -> HttpResponse:
    return HttpResponse(
        content, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _entry(request: HttpRequest, slug: str, entry: int) -> tuple[Tenant, Line]:
    """The tenant and one line of its record. Raises Http404: one of them is not this person's."""
    found = get_object_or_404(tenants_for(request.user), slug=slug)
    shown = line(found, entry)
    if shown is None:
        raise Http404
    return found, shown
