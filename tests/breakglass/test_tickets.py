"""A ticket's way from the request to its end, and everything that a step asks of whoever takes it."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import OperationalError, connection
from django.utils import timezone
from guardian.shortcuts import assign_perm

from audit.context import Actor
from audit.models import Entry
from breakglass import notices
from breakglass.models import (
    Approval,
    ApproverSetVersion,
    Rejection,
    Review,
    Revision,
    TenantApprovers,
    Ticket,
)
from breakglass.services import (
    review_write,
    ticket_approve,
    ticket_end,
    ticket_open,
    ticket_owner_approve,
    ticket_reject,
    ticket_revoke,
    ticket_start,
    ticket_withdraw,
    tickets_expire,
)
from breakglass.services.passkeys import passkey_retire
from protocol.persons import Purpose
from provisioning.models import Runtime
from tenants.models import Membership, Tenant
from tests.breakglass.expecting import refused
from tests.breakglass.lowered import set_times, triggers_down
from tests.breakglass.staff import Staff
from tests.breakglass.world import REASON, World
from tests.protocol.people import OWNER, STRANGER, Passkey

SOMEBODY = Passkey().key.public_key.hex()

pytestmark = pytest.mark.django_db


def just_now() -> Any:
    return timezone.now() - timedelta(milliseconds=1)


class TestTheWay:
    def test_from_request_to_review(self, world: World) -> None:
        ticket = world.open()
        assert (ticket.state, ticket.needed, ticket.revision) == ("pending", 1, 1)
        ticket = world.approve(ticket, world.anna)
        assert (ticket.state, ticket.approved_at is not None) == ("approved", True)
        ticket = ticket_start(actor=world.asker.actor, ticket=ticket)
        assert ticket.state == "active"
        assert ticket.started_at is not None
        assert ticket.access_until is not None
        assert (ticket.access_until - ticket.started_at).total_seconds() == pytest.approx(600, abs=0.1)
        ticket = ticket_end(actor=world.asker.actor, ticket=ticket)
        assert (ticket.state, ticket.ending, ticket.ended_by) == ("ended", "done", world.asker.user)
        review_write(actor=world.asker.actor, ticket=ticket, text="Restarted the gateway. " * 60)
        actions = Entry.objects.filter(target_type="ticket").order_by("pk").values_list("action", flat=True)
        assert list(actions) == [
            *("ticket.opened", "ticket.approval_given", "ticket.approved", "ticket.started"),
            *("ticket.ended", "ticket.reviewed"),
        ]

    def test_nothing_that_was_typed_is_in_a_leaf(self, world: World) -> None:
        """The digest proves the words; the record holds none of them, nor a path, nor a name."""
        ticket = world.active(paths=["payroll/may"], incident="https://status.example/4711")
        ticket_revoke(actor=world.anna.actor, ticket=ticket, words="He looks at what he should not.")
        review_write(actor=world.asker.actor, ticket=ticket, text="I looked into payroll by mistake.")
        written = " ".join(Entry.objects.values_list("event", flat=True))
        assert ticket.document["requester"]["name"] == "asker"
        for words in (REASON, "payroll", "status.example", "should not", "by mistake"):
            assert words not in written

    def test_two_must_approve_what_writes(self, world: World) -> None:
        ticket = world.open_for_two()
        assert ticket.needed == 2
        assert world.approve(ticket, world.anna).state == "pending"
        with refused("not_approved"):
            ticket_start(actor=world.asker.actor, ticket=ticket)
        assert world.approve(ticket, world.bert).state == "approved"

    def test_one_persons_two_keys_are_one_person(self, world: World, make_colleague: Staff) -> None:
        """A second passkey of one approver, in the set as well."""
        second = make_colleague("second")
        second.user = world.anna.user
        second.authenticator = type(second.authenticator)()
        second.register(name="Phone")
        world.next_set(*world.approvers, second)
        ticket = world.open_for_two()
        world.approve(ticket, world.anna)
        with refused("approved_already"):
            world.approve(ticket, second)
        assert world.fresh(ticket).state == "pending"

    def test_an_edit_voids_approvals(self, world: World) -> None:
        ticket = world.approved()
        changed = world.edited(ticket, paths=["secret"])()
        assert (changed.state, changed.revision, changed.approved_at) == ("pending", 2, None)
        assert (changed.asked_at, changed.wait_until) == (ticket.asked_at, ticket.wait_until)
        assert changed.document["paths"] == ["secret"]
        with refused("not_approved", "edited"):
            ticket_start(actor=world.asker.actor, ticket=ticket)
        with refused("bad_signature"):  # her earlier yes, for what is asked now
            signature = world.signed(ticket, world.anna)
            ticket_approve(actor=world.anna.actor, ticket=changed, signature=signature)
        assert world.approve(changed, world.anna).state == "approved"
        assert Revision.objects.filter(ticket=ticket).count() == 2

    def test_an_approval_of_the_revision_before_makes_no_quorum(self, world: World) -> None:
        ticket = world.approve(world.open_for_two(), world.anna)
        changed = world.edited(ticket, scopes=["exec"], paths=[""])()
        assert world.approve(changed, world.bert).state == "pending"
        assert world.approve(world.fresh(ticket), world.anna).state == "approved"

    def test_an_edit_counts_anew_how_many_must_approve(self, world: World) -> None:
        ticket = world.approved()
        changed = world.edited(ticket, scopes=["exec"], paths=[""])()
        assert (changed.needed, changed.state) == (2, "pending")

    def test_a_rejection_ends_it(self, world: World) -> None:
        ticket = world.reject(world.open(), world.bert, "Ask the tenant first, please.")
        assert (ticket.state, ticket.words) == ("rejected", "Ask the tenant first, please.")
        assert Rejection.objects.get().person == world.bert.passkey.person
        with refused("over"):
            world.approve(ticket, world.anna)

    def test_withdrawn(self, world: World) -> None:
        ticket = ticket_withdraw(actor=world.asker.actor, ticket=world.approved())
        assert ticket.state == "withdrawn"
        with refused("over"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_only_the_requester_begins_withdraws_and_ends(self, world: World, operator: User) -> None:
        """Not another operator, nor an approver; a superuser neither."""
        operator.is_superuser = True
        operator.save()
        ticket = world.approved()
        for step in (ticket_start, ticket_withdraw, ticket_end):
            for who in (Actor.of(operator), world.anna.actor, Actor.of(world.owner)):
                with refused("not_allowed"):
                    step(actor=who, ticket=ticket)

    def test_it_begins_once(self, world: World) -> None:
        ticket = world.active()
        with refused("started"):
            ticket_start(actor=world.asker.actor, ticket=ticket)


class TestAsking:
    @pytest.mark.parametrize(
        "changes",
        [
            {"reason": "too short"},
            {"reason": "with a NUL \0 in the middle of it"},
            {"scopes": []},
            {"scopes": ["root"]},
            {"paths": []},
            {"paths": ["../other"]},
            {"paths": ["/etc"]},
            {"seconds": 14401},
            {"seconds": 59},
            {"incident": "javascript:alert(1)"},
            {"scopes": ["exec"], "paths": ["logs"]},
            {"kind": "emergency", "scopes": ["workspace:read", "workspace:write"]},
            {"kind": "emergency", "seconds": 901},
        ],
    )
    def test_what_cannot_be_asked(self, world: World, changes: dict[str, Any]) -> None:
        with refused("malformed"):
            world.drafted(**changes)

    def test_who_may_not_operate_asks_for_nothing(self, world: World) -> None:
        with refused("not_allowed"):
            world.drafted(by=world.anna)

    def test_a_member_of_the_tenant_is_no_operator(self, world: World) -> None:
        Membership.objects.create(tenant=world.tenant, user=world.anna.user)
        with refused("not_allowed"):
            world.drafted(by=world.anna)

    def test_another_persons_passkey(self, world: World) -> None:
        with refused("not_your_key"):
            world.drafted(passkey=world.anna.passkey)

    def test_a_retired_passkey(self, world: World) -> None:
        passkey_retire(actor=world.asker.actor, passkey=world.asker.passkey)
        with refused("not_your_key"):
            world.drafted()

    def test_no_owner_has_named_approvers(self, world: World, make_tenant: Any) -> None:
        world.tenant = make_tenant("globex")
        with refused("no_approvers"):
            world.drafted()

    def test_no_set_at_all(self, world: World) -> None:
        """An empty quorum lets nobody in."""
        with triggers_down():
            TenantApprovers.objects.all()._raw_delete("default")
            ApproverSetVersion.objects.all()._raw_delete("default")
        with refused("no_approvers"):
            world.drafted()

    def test_a_set_that_cannot_be_read(self, world: World) -> None:
        """Whoever looks for a quorum and finds something else finds none."""
        with triggers_down(), connection.cursor() as cursor:
            cursor.execute("UPDATE breakglass_approversetversion SET document = '{}'")
        with refused("no_approvers"):
            world.drafted()

    def test_a_quorum_that_nobody_can_make(self, world: World) -> None:
        """Accounts that are closed, and keys that are retired, are not there; nor is the requester."""
        world.bert.user.is_active = False
        world.bert.user.save()
        passkey_retire(actor=world.carl.actor, passkey=world.carl.passkey)
        assert world.open().needed == 1
        with refused("unsatisfiable"):
            world.open_for_two()

    def test_the_requester_makes_no_quorum(self, world: World) -> None:
        world.next_set(world.anna, world.bert)
        world.anna.user.groups.add(Group.objects.get(name="operators"))
        with refused("unsatisfiable"):
            world.open_for_two(by=world.anna)

    def test_the_owner_has_closed_it(self, world: World) -> None:
        world.terms(ordinary="closed")
        with refused("closed"):
            world.drafted()
        assert world.drafted(kind="emergency")["kind"] == "emergency"

    def test_too_many(self, world: World) -> None:
        for _ in range(5):
            world.open()
        with refused("too_many"):
            world.open()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("tenant_id", "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02"),
            ("runtime_id", "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02"),
            ("requester", {"person": "user:1", "name": "Somebody", "key": SOMEBODY}),
            ("asked_at", 1_000_000_000),
            ("revision", 2),
            ("approvers", {"version": 1, "hash": "0" * 64}),
        ],
    )
    def test_what_the_browser_changed_is_not_taken(self, world: World, name: str, value: Any) -> None:
        """Even if it is signed: the server checks the document, whoever has carried it."""
        document = {**world.drafted(), name: value}
        if name == "asked_at":
            document["wait_until"] = value + 60
        with refused("not_allowed", "no_machine", "not_your_key", "stale"):
            ticket_open(
                actor=world.asker.actor,
                document=document,
                signature=world.asker.sign(Purpose.ACCESS_REQUEST, document),
            )

    def test_a_name_of_ones_own_choice(self, world: World) -> None:
        document = world.drafted()
        document["requester"]["name"] = "The tenant's owner"
        with refused("not_your_key"):
            ticket_open(
                actor=world.asker.actor,
                document=document,
                signature=world.asker.sign(Purpose.ACCESS_REQUEST, document),
            )

    def test_the_same_request_again_is_the_same_ticket(self, world: World) -> None:
        document = world.drafted()
        signature = world.asker.sign(Purpose.ACCESS_REQUEST, document)
        asked: dict[str, Any] = {
            "actor": world.asker.actor,
            "document": document,
            "signature": signature,
        }
        assert ticket_open(**asked).pk == ticket_open(**asked).pk
        assert Ticket.objects.count() == 1

    def test_a_request_signed_for_something_else(self, world: World) -> None:
        document = world.drafted()
        for purpose in Purpose:
            if purpose == Purpose.ACCESS_REQUEST:
                continue
            with refused("bad_request_signature"):
                ticket_open(
                    actor=world.asker.actor,
                    document=document,
                    signature=world.asker.sign(purpose, document),
                )

    def test_kind_and_times_stay(self, world: World) -> None:
        ticket = world.open()
        with refused("malformed"):
            world.drafted(ticket=ticket, kind="emergency")

    def test_what_runs_is_not_edited(self, world: World) -> None:
        with refused("started"):
            world.drafted(ticket=world.active())

    def test_somebody_elses_ticket_is_not_edited(self, world: World, make_colleague: Staff) -> None:
        other = make_colleague("other")
        other.user.groups.add(Group.objects.get(name="operators"))
        with refused("not_allowed"):
            world.drafted(by=other, ticket=world.open())


class TestApproving:
    """Each side path by which a ticket could come to an approval that nobody gave."""

    def test_the_requester_never(self, world: World) -> None:
        """Though the set names them, with the very key that asked, and though they are a superuser."""
        world.asker.user.is_superuser = True
        world.asker.user.save()
        world.next_set(*world.approvers, world.asker)
        ticket = world.open()
        with refused("own_approval"):
            world.approve(ticket, world.asker)
        assert Approval.objects.count() == 0

    def test_the_requester_by_another_key(self, world: World, make_colleague: Staff) -> None:
        second = make_colleague("second")
        second.user = world.asker.user
        second.authenticator = type(second.authenticator)()
        second.register(name="Phone")
        world.next_set(*world.approvers, second)
        with refused("own_approval"):
            world.approve(world.open(), second)

    def test_an_account_with_the_requesters_key(self, world: World, make_user: Any) -> None:
        """An alias: the key has one holder, retired or not."""
        alias = type(world.asker)(make_user("alias", is_staff=True), world.asker.authenticator)
        with refused("taken"):
            alias.register()
        passkey_retire(actor=world.asker.actor, passkey=world.asker.passkey)
        with refused("taken"):
            alias.register()

    def test_somebody_elses_assertion(self, world: World) -> None:
        """Bert carries Anna's signature: it is not his to give."""
        ticket = world.open()
        with refused("unknown_passkey"):
            ticket_approve(actor=world.bert.actor, ticket=ticket, signature=world.signed(ticket, world.anna))

    def test_a_key_outside_the_set(self, world: World, make_colleague: Staff) -> None:
        """Staff, an operator, a superuser, in the approvers' group: none of that approves."""
        outsider = make_colleague("outsider", is_superuser=True)
        outsider.user.groups.add(Group.objects.create(name="approvers"))
        with refused("bad_signature"):
            world.approve(world.open(), outsider)

    def test_who_left_the_set(self, world: World) -> None:
        ticket = world.open()
        world.next_set(world.anna, world.bert)
        with refused("wrong_set"):
            world.approve(ticket, world.carl)
        with refused("wrong_set"):
            world.approve(ticket, world.anna)

    @pytest.mark.parametrize(
        "lie",
        [
            {"origin": "http://acme.portal.localhost:8000"},
            {"origin": "https://evil.example"},
            {"rp_id": "evil.example"},
            {"flags": 0x01},
            {"flags": 0x04},
            {"type": "webauthn.create"},
            {"crossOrigin": True},
        ],
    )
    def test_an_assertion_from_elsewhere_or_without_verification(
        self, world: World, lie: dict[str, Any]
    ) -> None:
        with refused("bad_signature"):
            world.approve(world.open(), world.anna, **lie)

    def test_an_assertion_for_another_ticket(self, world: World) -> None:
        """Of the same words, even: each has its own nonce."""
        first, second = world.open(), world.open()
        with refused("bad_signature"):
            ticket_approve(actor=world.anna.actor, ticket=second, signature=world.signed(first, world.anna))

    def test_an_assertion_for_another_purpose(self, world: World) -> None:
        ticket = world.open()
        for purpose in Purpose:
            if purpose != Purpose.APPROVAL:
                with refused("bad_signature"):
                    signature = world.anna.sign(purpose, ticket.document)
                    ticket_approve(actor=world.anna.actor, ticket=ticket, signature=signature)

    def test_a_field_beside_the_signature_says_nothing(self, world: World) -> None:
        """Spoofed fields: what counts is whose key signed what."""
        ticket = world.open()
        signature = {**world.signed(ticket, world.anna), "person": "user:1", "approved": True}
        ticket_approve(actor=world.anna.actor, ticket=ticket, signature=signature)
        stored = Approval.objects.get()
        assert stored.person == world.anna.passkey.person
        assert set(stored.signature) == {"kind", "by", "client_data", "authenticator_data", "signature"}

    def test_a_counter_that_does_not_rise(self, world: World) -> None:
        """Two devices hold the key: it signs nothing more, and the record says so."""
        first, second = world.open(), world.open()
        world.approve(first, world.anna, counter=7)
        with refused("cloned"):
            world.approve(second, world.anna, counter=7)
        assert world.anna.passkey.cloned_at is not None
        assert Entry.objects.filter(action="passkey.cloned").count() == 1
        with refused("cloned", "unknown_passkey"):
            world.approve(second, world.anna, counter=8)

    def test_a_copys_earlier_approval_counts_no_more(self, world: World) -> None:
        """What was approved with a key of which a copy is about does not begin."""
        ticket, other = world.open(), world.open()
        ticket = world.approve(ticket, world.anna, counter=7)
        with refused("cloned"):
            world.approve(other, world.anna, counter=3)
        with refused("no_quorum"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_whose_time_is_over(self, world: World) -> None:
        ticket = world.open()
        signature = world.signed(ticket, world.anna)
        set_times(ticket, wait_until=just_now())
        with refused("too_late"):
            ticket_approve(actor=world.anna.actor, ticket=ticket, signature=signature)

    def test_the_requester_does_not_reject(self, world: World) -> None:
        world.next_set(*world.approvers, world.asker)
        with refused("own_approval"):
            world.reject(world.open(), world.asker)

    def test_a_rejection_is_signed_as_one(self, world: World) -> None:
        ticket = world.open()
        with refused("bad_signature"):
            signature = world.signed(ticket, world.anna)
            ticket_reject(actor=world.anna.actor, ticket=ticket, signature=signature)


class TestBeginning:
    """What was true at the approval is asked again when access begins."""

    def test_in_time(self, world: World) -> None:
        ticket = world.approved()
        set_times(ticket, wait_until=just_now())
        with refused("too_late"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_an_approver_who_left(self, world: World) -> None:
        ticket = world.approved()
        world.anna.user.is_active = False
        world.anna.user.save()
        with refused("no_quorum"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_an_approver_who_is_no_staff_any_more(self, world: World) -> None:
        ticket = world.approved()
        world.anna.user.is_staff = False
        world.anna.user.save()
        with refused("no_quorum"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_an_approvers_key_that_was_retired(self, world: World) -> None:
        ticket = world.approved()
        passkey_retire(actor=world.anna.actor, passkey=world.anna.passkey)
        with refused("no_quorum"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_another_set(self, world: World) -> None:
        ticket = world.approved()
        world.next_set()
        with refused("wrong_set"):
            ticket_start(actor=world.asker.actor, ticket=ticket)
        again = world.edited(ticket)()
        assert world.approve(again, world.anna).state == "approved"

    def test_the_requester_left_the_operators(self, world: World) -> None:
        """Stale membership between approval and use."""
        ticket = world.approved()
        world.asker.user.groups.clear()
        with refused("not_allowed"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    @pytest.mark.parametrize("field", ["is_active", "is_staff"])
    def test_the_requesters_account(self, world: World, field: str) -> None:
        ticket = world.approved()
        User.objects.filter(pk=world.asker.user.pk).update(**{field: False})
        with refused("not_allowed"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_the_requesters_key_was_retired(self, world: World) -> None:
        ticket = world.approved()
        passkey_retire(actor=world.asker.actor, passkey=world.asker.passkey)
        with refused("not_allowed"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    @pytest.mark.parametrize("way", ["superuser", "own permission", "this tenant", "this tenant's group"])
    def test_every_way_to_be_an_operator_counts(self, world: World, way: str) -> None:
        """As the rest of the portal has it."""
        ticket = world.approved()
        user = world.asker.user
        user.groups.clear()
        if way == "superuser":
            User.objects.filter(pk=user.pk).update(is_superuser=True)
        elif way == "own permission":
            user.user_permissions.add(Permission.objects.get(codename="operate_tenant"))
        elif way == "this tenant":
            assign_perm("tenants.operate_tenant", user, world.tenant)
        else:
            group = Group.objects.create(name="acme's")
            assign_perm("tenants.operate_tenant", group, world.tenant)
            user.groups.add(group)
        assert ticket_start(actor=world.asker.actor, ticket=ticket).state == "active"

    @pytest.mark.parametrize("phase", ["deleted", "failed", "provisioning"])
    def test_a_machine_that_cannot_be_told(self, world: World, phase: str) -> None:
        """Its time would run, and a review be owed, for nothing."""
        ticket = world.approved()
        Runtime.objects.filter(pk=world.runtime.pk).update(phase=phase)
        with refused("no_machine"):
            ticket_start(actor=world.asker.actor, ticket=ticket)
        assert world.fresh(ticket).state == "approved"

    def test_a_tenant_that_has_left(self, world: World) -> None:
        ticket = world.approved()
        Tenant.objects.filter(pk=world.tenant.pk).update(offboarded_at=timezone.now())
        with refused("no_machine"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_a_right_to_another_tenant_is_none(self, world: World, make_tenant: Any) -> None:
        ticket = world.approved()
        world.asker.user.groups.clear()
        assign_perm("tenants.operate_tenant", world.asker.user, make_tenant("globex"))
        with refused("not_allowed"):
            ticket_start(actor=world.asker.actor, ticket=ticket)

    def test_the_owner_closed_it_meanwhile(self, world: World) -> None:
        ticket = world.approved()
        world.terms(ordinary="closed")
        with refused("closed"):
            ticket_start(actor=world.asker.actor, ticket=ticket)


class TestTheOwner:
    def test_an_owner_must_sign_too(self, world: World) -> None:
        world.terms(ordinary="owner")
        ticket = world.open()
        assert ticket.needs_owner
        assert world.approve(ticket, world.anna).state == "pending"
        assert world.owner_approve(ticket).state == "approved"

    def test_the_owner_first(self, world: World) -> None:
        world.terms(ordinary="owner")
        ticket = world.open()
        assert world.owner_approve(ticket).state == "pending"
        assert world.approve(ticket, world.anna).state == "approved"

    def test_terms_that_came_after_the_approval(self, world: World) -> None:
        ticket = world.approved()
        world.terms(ordinary="owner")
        with refused("owner_missing"):
            ticket_start(actor=world.asker.actor, ticket=ticket)
        world.owner_approve(ticket)
        assert ticket_start(actor=world.asker.actor, ticket=ticket).state == "active"

    def test_an_owners_signature_is_for_one_revision(self, world: World) -> None:
        world.terms(ordinary="owner")
        ticket = world.open()
        world.owner_approve(ticket)
        changed = world.edited(ticket, paths=["secret"])()
        assert world.approve(changed, world.anna).state == "pending"

    def test_a_key_that_is_no_owners(self, world: World) -> None:
        with refused("bad_signature"):
            world.owner_approve(world.open(), STRANGER)

    def test_an_account_that_is_no_owners(self, world: World) -> None:
        """A member who carries an owner's signature."""
        ticket = world.open()
        signature = OWNER.sign(Purpose.OWNER_APPROVAL, ticket.document)
        with refused("not_allowed"):
            ticket_owner_approve(actor=world.anna.actor, ticket=ticket, signature=signature)

    def test_it_replaces_no_approver(self, world: World) -> None:
        ticket = world.owner_approve(world.open())
        assert ticket.state == "pending"


class TestRevoking:
    @pytest.mark.parametrize("step", ["open", "approved", "active"])
    def test_whatever_is_open(self, world: World, step: str) -> None:
        ticket = ticket_revoke(actor=world.anna.actor, ticket=getattr(world, step)())
        assert (ticket.state, ticket.ending) == ("revoked", "approver")
        with refused("over"):
            ticket_revoke(actor=world.anna.actor, ticket=ticket)

    def test_long_words_hold_nobody_up(self, world: World) -> None:
        """Whoever ends access in a hurry is not asked to be brief first."""
        ticket = ticket_revoke(actor=world.anna.actor, ticket=world.active(), words="\0" + "why " * 900)
        assert (ticket.state, len(ticket.words), "\0" in ticket.words) == ("revoked", 500, False)

    def test_by_whom(self, world: World, operator: User, make_user: Any) -> None:
        member = make_user("member")
        Membership.objects.create(tenant=world.tenant, user=member)
        for who, role in (
            (world.asker.user, "requester"),
            (world.carl.user, "approver"),
            (operator, "operator"),
            (world.owner, "owner"),
        ):
            ticket = ticket_revoke(actor=Actor.of(who), ticket=world.active())
            assert (ticket.state, ticket.ending, ticket.ended_by) == ("revoked", role, who)
            review_write(actor=world.asker.actor, ticket=ticket, text="It was revoked before I looked.")
        ticket = world.open()
        for nobody in (member, make_user("stranger"), make_user("colleague", is_staff=True)):
            with refused("not_allowed"):
                ticket_revoke(actor=Actor.of(nobody), ticket=ticket)


class TestTheClock:
    def test_what_waits_too_long(self, world: World) -> None:
        waiting, approved, running = world.open(), world.approved(), world.active()
        for ticket in (waiting, approved):
            set_times(ticket, wait_until=just_now(), asked_at=ticket.asked_at - timedelta(hours=4))
        assert tickets_expire() == 2
        states = [world.fresh(each).state for each in (waiting, approved, running)]
        assert states == ["timed_out", "timed_out", "active"]
        assert tickets_expire() == 0

    def test_access_that_is_over(self, world: World) -> None:
        ticket = world.active()
        set_times(ticket, started_at=ticket.asked_at, access_until=just_now())
        with refused("too_late"):
            ticket_end(actor=world.asker.actor, ticket=ticket)
        assert tickets_expire() == 1
        ticket = world.fresh(ticket)
        assert (ticket.state, ticket.ending, ticket.ended_by) == ("expired", "time", None)
        assert Review.objects.get().ticket == ticket

    def test_access_that_rests_on_nothing_any_more(self, world: World) -> None:
        """Another set, closed terms, a requester who left: nobody has to press a button."""
        ticket = world.active()
        assert tickets_expire() == 0
        world.next_set()
        assert tickets_expire() == 1
        assert world.fresh(ticket).ending == "other_set"
        ticket = world.active()
        world.terms(ordinary="closed")
        assert tickets_expire() == 1
        assert world.fresh(ticket).ending == "closed"
        world.terms(ordinary="approvers")
        ticket = world.active()
        world.asker.user.groups.clear()
        assert tickets_expire() == 1
        assert world.fresh(ticket).ending == "requester_gone"

    def test_terms_that_ask_for_an_owner_who_has_not_signed(self, world: World) -> None:
        """The guest ends it by itself; here it is said why."""
        without = world.active()
        agreed = world.approve(world.owner_approve(world.open()), world.anna)
        agreed = ticket_start(actor=world.asker.actor, ticket=agreed)
        world.terms(ordinary="owner")
        assert tickets_expire() == 1
        assert (world.fresh(without).state, world.fresh(without).ending) == ("revoked", "owner_missing")
        assert world.fresh(agreed).state == "active"

    def test_one_that_cannot_be_closed_keeps_none_of_the_others(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        tickets = [world.active() for _ in range(3)]
        for ticket in tickets:
            set_times(ticket, started_at=ticket.asked_at, access_until=just_now())
        over = notices.over

        def fails_for_one(ticket: Ticket) -> None:
            if ticket.pk == tickets[1].pk:
                raise RuntimeError("a row that nothing can be done with")
            over(ticket)

        monkeypatch.setattr(notices, "over", fails_for_one)
        assert tickets_expire() == 2
        assert [world.fresh(each).state for each in tickets] == ["expired", "active", "expired"]
        assert str(tickets[1].pk) in caplog.text

    def test_the_later_of_two_ends_is_told(self, world: World) -> None:
        """The guest counts from when it took the grant."""
        ticket = world.active()
        assert ticket.surely_over_at == ticket.access_until
        assert ticket.access_until is not None
        ticket.guest_until = ticket.access_until + timedelta(seconds=90)
        assert ticket.surely_over_at == ticket.guest_until
        ticket.guest_until = ticket.access_until - timedelta(seconds=90)
        assert ticket.surely_over_at == ticket.access_until


class TestReviews:
    def test_an_emergency_blocks_until_it_is_written(self, world: World) -> None:
        ticket = world.active(kind="emergency")
        ticket = ticket_end(actor=world.asker.actor, ticket=ticket)
        due = Review.objects.get().due_at - timezone.now()
        assert due.total_seconds() == pytest.approx(72 * 3600, abs=10)
        with refused("review_due"):
            world.drafted()
        review_write(actor=world.asker.actor, ticket=ticket, text="The disk was full; I have told them.")
        assert world.open().state == "pending"

    @pytest.mark.parametrize("runs", [True, False])
    def test_it_blocks_what_waits_as_well(self, world: World, runs: bool) -> None:
        """While it runs, and until its review is written: no edit and no start, and nothing new."""
        waiting, approved = world.open(), world.approved()
        edit = world.edited(waiting, scopes=["exec"], paths=[""])
        ticket = world.active(kind="emergency", scopes=["status"], paths=[])
        if not runs:
            ticket = ticket_end(actor=world.asker.actor, ticket=ticket)
        for step in (
            edit,
            world.drafted,
            lambda: world.drafted(ticket=waiting),
            lambda: ticket_start(actor=world.asker.actor, ticket=approved),
        ):
            with refused("review_due"):
                step()
        assert [world.fresh(each).state for each in (waiting, approved)] == ["pending", "approved"]
        if runs:
            ticket = ticket_end(actor=world.asker.actor, ticket=ticket)
        review_write(actor=world.asker.actor, ticket=ticket, text="The disk was full; I have told them.")
        assert edit().revision == 2
        assert ticket_start(actor=world.asker.actor, ticket=approved).state == "active"

    def test_somebody_elses_debt_is_theirs(self, world: World, make_colleague: Staff) -> None:
        other = make_colleague("other")
        other.user.groups.add(Group.objects.get(name="operators"))
        world.active(kind="emergency", scopes=["status"], paths=[])
        assert world.open(by=other).state == "pending"

    def test_an_ordinary_one_does_not_block(self, world: World) -> None:
        ticket_end(actor=world.asker.actor, ticket=world.active())
        assert Review.objects.filter(closed_at=None).count() == 1
        assert world.open().state == "pending"

    def test_what_never_began_needs_none(self, world: World) -> None:
        ticket = ticket_withdraw(actor=world.asker.actor, ticket=world.approved())
        assert Review.objects.count() == 0
        with refused("no_review"):
            review_write(actor=world.asker.actor, ticket=ticket, text="There is nothing to say here.")

    def test_by_the_requester_once_and_in_words(self, world: World) -> None:
        ticket = ticket_end(actor=world.asker.actor, ticket=world.active())
        with refused("not_allowed"):
            review_write(actor=world.anna.actor, ticket=ticket, text="I write it for the asker.")
        with refused("malformed"):
            review_write(actor=world.asker.actor, ticket=ticket, text="Done.")
        review_write(actor=world.asker.actor, ticket=ticket, text="I restarted the gateway twice.")
        with refused("review_closed"):
            review_write(actor=world.asker.actor, ticket=ticket, text="I restarted the gateway once.")

    def test_one_open_emergency_at_a_time(self, world: World) -> None:
        world.open(kind="emergency")
        with refused("emergency_open"):
            world.drafted(kind="emergency")


def test_a_database_that_does_not_answer_lets_nobody_in(world: World, monkeypatch: Any) -> None:
    """A lookup that fails is no yes: the error goes through, and the ticket stays as it is."""
    approved, waiting = world.approved(), world.open()
    signature = world.signed(waiting, world.anna)

    def fails() -> Any:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(ApproverSetVersion.objects, "first", fails)
    for step in (
        lambda: ticket_start(actor=world.asker.actor, ticket=approved),
        lambda: ticket_approve(actor=world.anna.actor, ticket=waiting, signature=signature),
        lambda: world.drafted(),
    ):
        with pytest.raises(OperationalError):
            step()
    assert [world.fresh(each).state for each in (approved, waiting)] == ["approved", "pending"]
    assert Approval.objects.filter(ticket=waiting).count() == 0
