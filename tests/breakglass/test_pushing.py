"""Sets and terms reach guests in their order, from agents that run here; what a guest states is noted."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import command
from audit.models import Entry
from breakglass import pushing
from breakglass.models import ApproverSetVersion, GuestApprovers, TenantApprovers
from breakglass.promises import approvers
from breakglass.pushing_tasks import approvers_apply, approvers_sweep
from breakglass.services.naming import approvers_name
from breakglass.services.terms import terms_accept, terms_draft
from protocol.persons import Purpose
from provisioning import members
from provisioning.models import Operation, Runtime
from provisioning.no_go import PROBES
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.services import operation_request
from tenants.models import Tenant
from tenants.selectors import latest_keyring
from tests.breakglass.staff import Colleague, draft, put_in_force
from tests.protocol.people import OWNER, STRANGER, entry, naming
from tests.provisioning.conftest import net, runtime
from tests.provisioning.test_calls import client
from tests.provisioning.workers import drain
from tests.tenants.conftest import House

__all__ = ["net", "runtime"]
pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
NOTHING = {"approvers": None, "terms": None}


@pytest.fixture
def house(tenant: Tenant, owner: User) -> House:
    """An owner with a keyring."""
    found = House(tenant, {"owner": owner})
    found.found()
    return found


def name(house: House) -> TenantApprovers:
    current = ApproverSetVersion.objects.first()
    assert current is not None
    signature = naming(OWNER, current.document, str(house.tenant.pk))
    return approvers_name(
        actor=house.actor(), tenant=house.tenant, version=current.version, signature=signature
    )


def agree(house: House, ordinary: str = "owner", emergency: str = "closed") -> None:
    document = terms_draft(tenant=house.tenant, ordinary=ordinary, emergency=emergency)
    signature = OWNER.sign(Purpose.TERMS, document)
    terms_accept(actor=house.actor(), tenant=house.tenant, document=document, signature=signature)


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def said(runtime: Runtime) -> dict[str, Any]:
    """What the guest itself states now."""
    status = client(runtime).status()
    return {"approvers": status["approvers"], "terms": status["terms"] and status["terms"]["version"]}


def row() -> GuestApprovers:
    return GuestApprovers.objects.get()


def of(version: ApproverSetVersion) -> dict[str, Any]:
    return {"version": version.version, "hash": version.hash}


def test_nothing_without_an_owners_signature(
    runtime: Runtime, house: House, first: ApproverSetVersion, anna: Colleague
) -> None:
    """A set may be in force here: no guest is told of it until its owner has named it."""
    pushing.apply(runtime.pk)
    put_in_force([anna], [anna])
    pushing.apply(runtime.pk)
    assert said(runtime) == NOTHING
    assert (row().stated, row().refused, row().told_naming) == (NOTHING, "", 0)
    assert list(pushing.unconfirmed()) == []
    assert noted("guest.approvers_stated") == []


def test_what_the_owner_named_and_all_that_followed(
    runtime: Runtime, house: House, first: ApproverSetVersion, anna: Colleague
) -> None:
    """The named set with the owner's signature, the later ones with their quorum's, and the terms."""
    named = name(house)
    second = put_in_force([anna], [anna], exec=1)
    agree(house)
    assert list(pushing.unconfirmed()) == [runtime]
    pushing.apply(runtime.pk)
    assert said(runtime) == {"approvers": of(second), "terms": 1}
    assert (row().told_set, row().told_terms, row().told_naming, row().refused) == (2, 1, named.pk, "")
    terms = {"version": 1, "ordinary": "owner", "emergency": "closed"}
    assert noted("guest.approvers_stated") == [{"approvers": of(second), "terms": terms}]
    assert list(pushing.unconfirmed()) == []
    assert approvers() == (True, "1 ready guests believe what was signed")
    count = Entry.objects.filter(action="agent.requested").count()
    pushing.apply(runtime.pk)
    assert Entry.objects.filter(action="agent.requested").count() == count + 1, "asks, and delivers nothing"


def test_a_later_set_may_be_the_first_a_guest_takes(
    runtime: Runtime, house: House, first: ApproverSetVersion, anna: Colleague
) -> None:
    """The owner names the one in force; the guest never hears of those before."""
    second = put_in_force([anna], [anna])
    name(house)
    pushing.apply(runtime.pk)
    assert said(runtime)["approvers"] == of(second)


def test_tasks_go_out_at_once(
    runtime: Runtime,
    house: House,
    first: ApproverSetVersion,
    anna: Colleague,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the naming, with the terms, and with each later set; for a set that nobody named, to nobody."""
    sent: list[Any] = []
    monkeypatch.setattr(
        "celery.current_app.send_task", lambda name, args: sent.append((name.rpartition(".")[2], args))
    )
    put_in_force([anna], [anna])
    assert sent == []
    name(house)
    agree(house)
    put_in_force([anna], [anna])
    assert sent == [("approvers_apply", [str(runtime.pk)])] * 3


def test_the_sweeper_repeats_what_failed(
    runtime: Runtime, house: House, first: ApproverSetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that does not answer, or not now, is asked again until it does."""
    name(house)

    def silent(*args: Any, **given: Any) -> None:
        raise AgentUnreachable("No answer.")

    def busy(*args: Any, **given: Any) -> None:
        raise AgentRefused(429, "too_many_requests")

    sent: list[str] = []
    for method, failing in (("_send", silent), ("deliver_approvers", busy)):
        with monkeypatch.context() as patch:
            patch.setattr(RuntimeClient, method, failing)
            approvers_apply(str(runtime.pk))
    monkeypatch.setattr(approvers_apply, "delay", sent.append)
    approvers_sweep()
    assert sent == [str(runtime.pk)]
    approvers_apply(str(runtime.pk))
    approvers_sweep()
    assert sent == [str(runtime.pk)]
    assert said(runtime)["approvers"] == of(first)


def test_a_guest_is_told_at_its_start(runtime: Runtime, house: House, first: ApproverSetVersion) -> None:
    """One that was off when it was signed, and one whose disk was set back."""
    stop = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.STOP)
    assert drain(stop).state == Operation.State.SUCCEEDED
    name(house)
    pushing.apply(runtime.pk)
    assert not GuestApprovers.objects.filter(told_naming__gt=0).exists()
    assert list(pushing.unconfirmed()) == []
    start = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.START)
    assert drain(start).state == Operation.State.SUCCEEDED
    assert said(runtime)["approvers"] == of(first)
    assert row().stated["approvers"] == of(first)


def test_the_keyring_goes_first(runtime: Runtime, house: House, first: ApproverSetVersion) -> None:
    """A running guest that has not heard of the owner's keyring yet is told that before the naming."""
    assert client(runtime).status()["keyring"] is None
    name(house)
    pushing.apply(runtime.pk)
    assert (row().refused, said(runtime)["approvers"]) == ("", of(first))


def test_an_owner_who_left_names_nobody(
    runtime: Runtime, house: House, first: ApproverSetVersion, anna: Colleague
) -> None:
    """The guest is past the keyring of the signer: it refuses, once on record; a new owner names them anew."""
    name(house)
    house.register(public_key=STRANGER.key.public_key, name="New")
    keyring = latest_keyring(house.tenant)
    assert keyring is not None
    house.accept(house.next(keyring, entry(STRANGER.key)))
    members.apply(runtime.pk)
    for _ in range(3):
        pushing.apply(runtime.pk)
    assert noted("guest.approvers_refused") == [{"code": "not_an_owner", "version": 1, "terms_version": 0}]
    assert (row().refused, said(runtime)["approvers"]) == ("not_an_owner", None)
    assert list(pushing.unconfirmed()) == []
    assert approvers()[0] is False
    signature = naming(STRANGER, first.document, str(house.tenant.pk))
    approvers_name(actor=house.actor(), tenant=house.tenant, version=1, signature=signature)
    assert list(pushing.unconfirmed()) == [runtime]
    pushing.apply(runtime.pk)
    assert (row().refused, said(runtime)["approvers"]) == ("", of(first))


def test_a_guest_that_believes_others(
    runtime: Runtime, house: House, first: ApproverSetVersion, anna: Colleague
) -> None:
    """It keeps to what it has pinned: on record, no more set is sent, and the no-go check fails."""
    foreign = {**draft([anna]), "version": 7, "previous": "0" * 64}
    other = client(runtime)
    members.apply(runtime.pk)
    other.deliver_approvers(foreign, [naming(OWNER, foreign, str(house.tenant.pk))])
    name(house)
    agree(house)
    for _ in range(2):
        pushing.apply(runtime.pk)
    assert noted("guest.approvers_refused") == [{"code": "forked", "version": 1, "terms_version": 1}]
    assert said(runtime)["approvers"]["version"] == 7
    assert said(runtime)["terms"] == 1, "the owner's terms go their own way"
    passed, evidence = PROBES["approvers"](None)  # type: ignore[arg-type]
    assert not passed
    assert "never in force here" in evidence
    assert list(pushing.unconfirmed()) == []


def test_terms_that_nobody_signed_here(runtime: Runtime, house: House) -> None:
    """The guest has them from elsewhere: the no-go check says so."""
    document = terms_draft(tenant=house.tenant, ordinary="closed", emergency="closed")
    members.apply(runtime.pk)
    client(runtime).deliver_terms(document, OWNER.sign(Purpose.TERMS, document))
    pushing.apply(runtime.pk)
    assert row().stated["terms"] == {"version": 1, "ordinary": "closed", "emergency": "closed"}
    passed, evidence = approvers()
    assert (passed, "terms that no owner has signed" in evidence) == (False, True)


def test_an_older_image_is_told_once(
    runtime: Runtime, house: House, first: ApproverSetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest without the route answers 404: noted, and not asked every few seconds."""

    def unknown(*args: Any, **given: Any) -> None:
        raise AgentRefused(404, "not_found")

    agree(house)
    monkeypatch.setattr(RuntimeClient, "deliver_terms", unknown)
    pushing.apply(runtime.pk)
    assert row().refused == "not_found"
    assert list(pushing.unconfirmed()) == []


def test_an_older_answer_is_not_noted(runtime: Runtime, house: House, first: ApproverSetVersion) -> None:
    """Of two workers, the one that asked last counts."""
    name(house)
    pushing.apply(runtime.pk)
    before = row()
    assert before.at is not None
    told = {"told_set": 9, "told_terms": 9, "told_naming": 9}
    pushing._note(runtime, told, NOTHING, before.at.replace(year=before.at.year - 1), "forked")
    assert (row().stated, row().told_set, row().refused) == (before.stated, 1, "")


def test_without_an_entry_nothing_is_noted(
    runtime: Runtime, house: House, first: ApproverSetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1: what the guest states and its entry are one transaction."""
    name(house)

    def full(**given: Any) -> None:
        raise OSError("disk full")

    before = GuestApprovers.objects.values().first()
    with monkeypatch.context() as patch:
        patch.setattr("breakglass.pushing.record", full)
        with pytest.raises(OSError, match="disk full"):
            pushing.apply(runtime.pk)
    assert GuestApprovers.objects.values().first() == before


@pytest.mark.parametrize(
    "lie",
    [
        {"approvers": {}},
        {"approvers": {"version": True, "hash": "ab" * 32}},
        {"approvers": {"version": 1, "hash": "x"}},
        {"approvers": "x"},
        {"terms": {"version": 1, "ordinary": "open", "emergency": "closed"}},
        {"terms": {"version": 0, "ordinary": "owner", "emergency": "owner"}},
        {"terms": {"version": 1, "ordinary": ["owner"], "emergency": "owner"}},
        {"keyring": {"version": "1"}},
    ],
)
def test_a_malformed_statement_is_not_kept(lie: Any) -> None:
    """The guest is the tenant's: what it says is checked before it is noted."""
    terms = {"version": 3, "ordinary": "owner", "emergency": "closed"}
    good = {"keyring": {"version": 2}, "approvers": {"version": 1, "hash": "ab" * 32}, "terms": terms}
    assert pushing.statement({**good, "more": 1}) == {**good, "keyring": 2}
    assert pushing.statement({"keyring": None}) == {**NOTHING, "keyring": 0}
    with pytest.raises(AgentUnreachable, match="malformed"):
        pushing.statement({**good, **lie})
