"""The staff's page of approvers: who they are, the next set, and its signatures."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from audit.context import Actor
from breakglass.models import SetProposal
from breakglass.people import read_set, usable_passkeys
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_set
from breakglass.services.sets import may_propose, set_draft, set_propose, set_sign, set_withdraw
from portal.breakglass import signing
from portal.breakglass.approvers_page import approvers_page
from portal.breakglass.set_form import SetForm, people_offered
from portal.breakglass.set_words import NUMBERS
from portal.breakglass.signing import SigningRefused
from portal.breakglass.staff_only import NOT_ALLOWED, person, sentence, signed, staff_only
from protocol.approvers import ApproverSet
from protocol.persons import Purpose


@staff_only
@require_GET
@never_cache
def approvers(request: HttpRequest) -> HttpResponse:
    """Who approves now, what is proposed, and which machines believe it."""
    return render(request, "portal/break_glass/approvers.html", approvers_page(person(request)))


@staff_only
@require_http_methods(["GET", "POST"])
@never_cache
def propose(request: HttpRequest) -> HttpResponse:
    """The next set, as a form. Sending it puts it up for signatures, and changes nothing else."""
    if not may_propose(person(request)):
        raise PermissionDenied
    current = read_set(current_set())
    if request.method != "POST":
        return _form(request, SetForm.of(current))
    form = SetForm.sent(request.POST)
    if form.errors:
        return _form(request, form, status=400)
    document = set_draft(passkeys=form.passkeys(), threshold=form.threshold, policy=form.policy)
    try:
        proposal = set_propose(actor=Actor.of(request.user), document=document)
    except TicketRefused as refusal:
        if refusal.code == NOT_ALLOWED:
            raise PermissionDenied from None
        messages.error(request, sentence(refusal))
        return _form(request, form, status=409)
    messages.success(request, "Proposed. It is in force once enough approvers have signed it.")
    return redirect(f"{reverse('break-glass-approvers')}#proposal-{proposal.pk}")


@staff_only
@require_POST
@signed
def sign(request: HttpRequest, proposal: int) -> HttpResponse:
    """An approver signs the proposed set, in two steps."""
    found, slot = get_object_or_404(SetProposal, pk=proposal), f"break-glass-set:{proposal}"
    if signing.is_answer(request):
        # A proposal never changes, and the service checks the signature against the one that is kept.
        _, signature = signing.answered(request, slot=slot)
        taken = set_sign(actor=Actor.of(request.user), proposal=found, signature=signature)
        accepted = taken.state == SetProposal.State.ACCEPTED
        messages.success(request, "This set is in force now." if accepted else "You have signed it.")
        return signing.done(reverse("break-glass-approvers"))
    if found.state != SetProposal.State.OPEN:
        raise SigningRefused("This proposal is closed. Reload the page.")
    signers = read_set(current_set()) or ApproverSet.parse(found.document)
    keys = usable_passkeys(person(request)).filter(fingerprint__in=list(signers.approvers))
    return signing.ask(request, slot=slot, purpose=Purpose.APPROVERS, document=found.document, keys=keys)


@staff_only
@require_POST
def withdraw(request: HttpRequest, proposal: int) -> HttpResponse:
    """Take a proposal back."""
    found = get_object_or_404(SetProposal, pk=proposal)
    try:
        set_withdraw(actor=Actor.of(request.user), proposal=found)
    except TicketRefused as refusal:
        if refusal.code == NOT_ALLOWED:
            raise PermissionDenied from None
        messages.error(request, sentence(refusal))
    return redirect("break-glass-approvers")


def _form(request: HttpRequest, form: SetForm, status: int = 200) -> HttpResponse:
    current = current_set()
    context = {
        "current": current,
        "people": people_offered(form),
        "keys_error": form.errors.get("keys", ""),
        "numbers": [
            (name, words, form.typed[name], form.errors.get(name, "")) for name, words in NUMBERS.items()
        ],
    }
    return render(request, "portal/break_glass/approvers_new.html", context, status=status)
