"""Staff with passkeys in software, and approver sets that they sign. No browser; each part can be made to lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from audit.context import Actor
from breakglass.models import ApproverSetVersion, Passkey, SetProposal
from breakglass.selectors import current_set
from breakglass.services.passkeys import passkey_register
from breakglass.services.sets import set_draft, set_propose, set_sign
from protocol.approvers import DEFAULT_POLICY
from protocol.persons import Purpose, encode
from tests.protocol.people import Passkey as Authenticator

PORTAL = "http://portal.localhost:8000"


@dataclass
class Colleague:
    """One of the staff, with one passkey. ``counter`` is what the authenticator counts; 0: it does not."""

    user: User
    authenticator: Authenticator = field(default_factory=Authenticator)
    counter: int = 0

    @property
    def actor(self) -> Actor:
        return Actor.of(self.user)

    @property
    def passkey(self) -> Passkey:
        return Passkey.objects.get(fingerprint=self.authenticator.key.fingerprint)

    def register(self, **given: Any) -> Passkey:
        """Register the passkey, in their own name."""
        key = self.authenticator.key
        more = {"public_key": key.public_key, "credential_id": encode(key.public_key[-32:]), "name": "Laptop"}
        return passkey_register(actor=self.actor, **{**more, **given})

    def sign(self, purpose: Purpose, document: Any, **lies: Any) -> dict[str, str]:
        """An assertion made on the portal's page."""
        if self.counter:
            self.counter += 1
        given = {"origin": settings.BASE_URL, "counter": self.counter, **lies}
        return self.authenticator.sign(purpose, document, **given)


Staff = Callable[..., Colleague]


def maker(make_user: Callable[..., User]) -> Staff:
    """Makes colleagues, each with a registered passkey."""

    def make(name: str, *, counter: int = 0, **more: Any) -> Colleague:
        colleague = Colleague(make_user(name, is_staff=True, **more), counter=counter)
        colleague.register()
        return colleague

    return make


def draft(people: Sequence[Colleague], threshold: int = 1, **policy: int) -> dict[str, Any]:
    """The set of these people that would follow the one in force; no scope needs more than change the set."""
    numbers = {name: min(number, threshold) for name, number in DEFAULT_POLICY.items()} | policy
    return set_draft(passkeys=[each.passkey for each in people], threshold=threshold, policy=numbers)


def sign(signer: Colleague, proposal: SetProposal, **lies: Any) -> SetProposal:
    """Take the signature of one of them."""
    signature = signer.sign(Purpose.APPROVERS, proposal.document, **lies)
    return set_sign(actor=signer.actor, proposal=proposal, signature=signature)


def put_in_force(
    people: Sequence[Colleague], by: Sequence[Colleague], threshold: int = 1, **policy: int
) -> ApproverSetVersion:
    """Propose a set, by the first who signs it, and have all of ``by`` sign it."""
    proposal = set_propose(actor=by[0].actor, document=draft(people, threshold, **policy))
    for signer in by:
        proposal = sign(signer, proposal)
    kept = current_set()
    assert kept is not None
    assert kept.hash == proposal.hash
    return kept
