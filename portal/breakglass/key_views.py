"""The staff's page of passkeys: one's own, and all for those who may retire them."""

import json
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from audit.context import Actor
from breakglass.models import Passkey
from breakglass.people import SeatKey, read_set
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_set
from breakglass.services.passkeys import RETIRE, passkey_register, passkey_retire
from portal.breakglass import signing
from portal.breakglass.signing import SigningRefused
from portal.breakglass.staff_only import NOT_ALLOWED, person, sentence, signed, staff_only
from portal.passkeys import PasskeyRefused, creation_options, registered

MAX_CREDENTIAL = 64 * 1024
"""Characters of the browser's answer."""


@staff_only
@require_http_methods(["GET", "POST"])
@never_cache
def keys(request: HttpRequest) -> HttpResponse:
    """The page; its form posts the passkey that the browser has made."""
    if request.method == "POST":
        return _register(request)
    user = person(request)
    named = read_set(current_set())
    in_force = frozenset(named.approvers) if named else frozenset()
    own = Passkey.objects.filter(user=user).select_related("user")
    others = Passkey.objects.none()
    if user.has_perm(RETIRE):
        others = Passkey.objects.exclude(user=user).filter(retired_at=None).select_related("user")
    context = {
        "own": [_row(passkey, in_force) for passkey in own],
        "others": [_row(passkey, in_force) for passkey in others.order_by("user__username", "pk")[:200]],
    }
    return render(request, "portal/break_glass/keys.html", context)


@staff_only
@require_POST
@signed
def options(request: HttpRequest) -> HttpResponse:
    """What the browser needs to make a passkey. The challenge in it is good once."""
    user = person(request)
    known = Passkey.objects.filter(user=user, retired_at=None).values_list("credential_id", flat=True)
    label = f"{user.get_username()} (staff)"
    return JsonResponse(
        creation_options(request.session, username=user.get_username(), label=label, known=known)
    )


@staff_only
@require_POST
def retire(request: HttpRequest, key: int) -> HttpResponse:
    """Give a passkey up, for good."""
    found = get_object_or_404(Passkey, pk=key)
    if found.user_id != request.user.pk and not person(request).has_perm(RETIRE):
        raise PermissionDenied
    try:
        passkey_retire(actor=Actor.of(request.user), passkey=found)
    except TicketRefused as refusal:
        if refusal.code == NOT_ALLOWED:
            raise PermissionDenied from None
        messages.error(request, sentence(refusal))
    else:
        messages.success(request, f"“{found.name}” is retired.")
    return redirect("break-glass-keys")


@signed
def _register(request: HttpRequest) -> HttpResponse:
    try:
        public_key, credential_id = registered(request.session, _credential(request))
    except PasskeyRefused as refusal:
        raise SigningRefused(str(refusal)) from None
    passkey_register(
        actor=Actor.of(request.user),
        public_key=public_key,
        credential_id=credential_id,
        name=request.POST.get("name", ""),
    )
    messages.success(request, "Registered. Ask for access with it; a quorum makes it an approver's.")
    return signing.done(reverse("break-glass-keys"))


def _credential(request: HttpRequest) -> dict[str, Any]:
    """What the browser says that it has made. Raises PasskeyRefused."""
    text = request.POST.get("credential", "")
    try:
        found = json.loads(text) if len(text) <= MAX_CREDENTIAL else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PasskeyRefused("The passkey's answer does not fit. Press the button again.")
    return found


def _row(passkey: Passkey, in_force: frozenset[str]) -> dict[str, Any]:
    return {
        "passkey": passkey,
        "trouble": SeatKey(passkey.fingerprint, passkey).trouble,
        "named": passkey.fingerprint in in_force,
    }
