"""The database's own refusals: what a shell, or a page that goes round the services, comes up against."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.utils import timezone

from audit.models.append_only import AppendOnlyError
from breakglass import transitions, triggers
from breakglass.models import (
    Approval,
    ApproverSetVersion,
    Intent,
    OwnerApproval,
    Passkey,
    Receipt,
    Rejection,
    Review,
    Revision,
    SetSignature,
    TenantApprovers,
    TermsVersion,
    Ticket,
)
from breakglass.services import ticket_end, ticket_revoke
from breakglass.services.passkeys import passkey_retire
from tests.breakglass.lowered import set_times
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db
State = Ticket.State
OVER = [each for each in State if each not in Ticket.OPEN]


def run(statement: str, *parameters: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def update(ticket: Ticket, **fields: Any) -> None:
    """By the ORM, round the services."""
    with transaction.atomic():
        Ticket.objects.filter(pk=ticket.pk).update(**fields)


class TestWhatIsWrittenOnce:
    @pytest.fixture
    def rows(self, world: World) -> dict[str, Any]:
        """One of each table, as the services make it where there is a service."""
        world.terms()
        rejected = world.reject(world.open(), world.bert)
        world.owner_approve(world.open())
        active = world.active()
        Intent.objects.create(ticket=active, token="t1", route="files", method="GET")
        Receipt.objects.create(
            runtime=world.runtime,
            seq=1,
            hash="0" * 64,
            previous="0" * 64,
            text="{}",
            ticket_id=rejected.pk,
            event="granted",
            at=timezone.now(),
        )
        models = (ApproverSetVersion, SetSignature, TenantApprovers, TermsVersion, Revision, Approval)
        more = (Rejection, OwnerApproval, Intent, Receipt)
        return {each._meta.db_table: each.objects.all()[0] for each in (*models, *more)}

    def test_no_statement_changes_or_removes_it(self, rows: dict[str, Any]) -> None:
        assert set(rows) == set(triggers.TABLES)
        for table, row in rows.items():
            with pytest.raises(DatabaseError, match="append-only"):
                run(f"UPDATE {table} SET id = id + 1 WHERE id = %s", row.pk)  # noqa: S608 - ours
            with pytest.raises(DatabaseError, match="append-only"):
                run(f"DELETE FROM {table} WHERE id = %s", row.pk)  # noqa: S608 - ours

    def test_nor_does_the_orm(self, rows: dict[str, Any]) -> None:
        for row in rows.values():
            for deed in (row.save, row.delete, type(row).objects.all().delete):
                with pytest.raises(AppendOnlyError):
                    deed()


class TestTheCourse:
    """Every step that the table of transitions lacks is refused by the database itself."""

    def ticket_in(self, world: World, state: str) -> Ticket:
        """Put into a state as if nothing stood in the way, with the times that it needs."""
        ticket = world.open()
        Approval.objects.create(
            ticket=ticket,
            revision=1,
            passkey=world.anna.passkey,
            person=world.anna.passkey.person,
            signature={},
        )
        now = timezone.now()
        begun = {"approved_at": now, "started_at": now, "access_until": now + timedelta(seconds=600)}
        times: dict[str, Any] = {
            State.APPROVED: {"approved_at": now},
            **dict.fromkeys((State.ACTIVE, State.ENDED, State.EXPIRED, State.REVOKED), begun),
        }.get(State(state), {})
        over = {} if state in Ticket.OPEN else {"ended_at": now, "ending": "test"}
        set_times(ticket, state=state, **times, **over)
        return world.fresh(ticket)

    @pytest.mark.parametrize("state", list(State))
    def test_each_step_from(self, world: World, state: str) -> None:
        """With whatever else makes the row fit: the step alone decides."""
        ticket = self.ticket_in(world, state)
        for after in State:
            if after == state and state in Ticket.OPEN:
                continue
            allowed = after in transitions.TABLE.get(state, ())
            assert self.passes(ticket, after) == allowed, f"{state} to {after}"

    def passes(self, ticket: Ticket, after: str) -> bool:
        """Whether the database takes the step; it is taken back."""
        now = timezone.now()
        fields: dict[str, Any] = {"state": after}
        if after in (State.ACTIVE, State.ENDED, State.EXPIRED):
            fields |= {
                "approved_at": ticket.approved_at or now,
                "started_at": ticket.started_at or now,
                "access_until": ticket.access_until or now + timedelta(seconds=ticket.seconds),
            }
        if after == State.APPROVED:
            fields["approved_at"] = now
        if after == State.PENDING:
            fields |= {"approved_at": None, "revision": F("revision") + 1}
        if after in OVER:
            fields |= {"ended_at": now, "ending": "shell"}
        try:
            with transaction.atomic():
                Ticket.objects.filter(pk=ticket.pk).update(**fields)
                transaction.set_rollback(True)
        except DatabaseError:
            return False
        return True

    @pytest.mark.parametrize("field", ["tenant_id", "runtime_id", "requester_id", "kind", "wait_until"])
    def test_who_asked_for_what_stays(self, world: World, field: str) -> None:
        values = {
            "tenant_id": None,
            "runtime_id": None,
            "requester_id": world.anna.user.pk,
            "kind": "emergency",
            "wait_until": timezone.now() + timedelta(hours=9),
        }
        with pytest.raises(DatabaseError):
            update(world.open(), **{field: values[field]})

    @pytest.mark.parametrize("field", ["needed", "seconds", "passkey_id"])
    def test_what_approvers_read_stays_until_it_is_another_revision(self, world: World, field: str) -> None:
        ticket = world.open_for_two()
        with pytest.raises(DatabaseError, match="no such step"):
            update(ticket, **{field: {"passkey_id": world.anna.passkey.pk}.get(field, 700)})

    def test_time_is_not_added_to_access(self, world: World) -> None:
        ticket = world.active()
        with pytest.raises(DatabaseError, match="no such step"):
            update(ticket, access_until=timezone.now() + timedelta(hours=3))

    def test_what_is_over_is_kept(self, world: World) -> None:
        ticket = ticket_end(actor=world.asker.actor, ticket=world.active())
        for fields in (
            {"ending": "other"},
            {"ended_by_id": world.anna.user.pk},
            {"access_until": timezone.now() + timedelta(hours=1)},
            {"needed": 9},
        ):
            with pytest.raises(DatabaseError, match="no such step"):
                update(ticket, **fields)
        update(ticket, end_confirmed_at=timezone.now(), delivered_at=timezone.now())

    def test_tickets_are_not_removed(self, world: World) -> None:
        ticket = world.open()
        with pytest.raises(DatabaseError, match="tickets are kept"):
            run("DELETE FROM breakglass_ticket WHERE state = %s", ticket.state)

    @pytest.mark.parametrize(
        "changes",
        [
            {"state": "approved", "approved_at": timezone.now()},
            {"revision": 2},
            {"wait_until": timedelta(hours=5)},
            {"asked_at": -timedelta(hours=1)},
        ],
    )
    def test_a_ticket_begins_as_one_that_waits(self, world: World, changes: dict[str, Any]) -> None:
        """Made by hand, with all that the services would give it."""
        model = world.open()
        now = timezone.now()
        fields = {
            "asked_at": now,
            "wait_until": now + timedelta(hours=4),
            **{
                name: getattr(model, name)
                for name in (
                    "tenant",
                    "runtime",
                    "requester",
                    "passkey",
                    "approvers_set",
                    "needed",
                    "seconds",
                )
            },
            "kind": "ordinary",
        }
        moved = {name: now + one if isinstance(one, timedelta) else one for name, one in changes.items()}
        with transaction.atomic():
            Ticket.objects.create(**fields)
        with pytest.raises(DatabaseError, match="begins as one that waits"), transaction.atomic():
            Ticket.objects.create(**{**fields, **moved})

    def test_with_ones_own_key_in_use(self, world: World) -> None:
        model, now = world.open(), timezone.now()
        with pytest.raises(DatabaseError, match="begins as one that waits"), transaction.atomic():
            Ticket.objects.create(
                tenant=world.tenant,
                runtime=world.runtime,
                requester=world.asker.user,
                passkey=world.anna.passkey,
                kind="ordinary",
                approvers_set=model.approvers_set,
                needed=1,
                seconds=600,
                asked_at=now,
                wait_until=now + timedelta(hours=1),
            )


class TestApprovals:
    """Written by hand: no signature is looked at here, and still the row must be one that could be."""

    def by_hand(self, ticket: Ticket, passkey: Passkey, **more: Any) -> None:
        given = {"revision": ticket.revision, "person": passkey.person, "signature": {}, **more}
        with transaction.atomic():
            Approval.objects.create(ticket=ticket, passkey=passkey, **given)

    def test_by_whom_it_may_be(self, world: World) -> None:
        self.by_hand(world.open(), world.anna.passkey)
        assert Approval.objects.count() == 1

    def test_not_by_the_requester(self, world: World) -> None:
        """Though their key stands in the set."""
        world.next_set(*world.approvers, world.asker)
        ticket = world.open()
        with pytest.raises(DatabaseError, match="may not approve"):
            self.by_hand(ticket, world.asker.passkey)
        with pytest.raises(DatabaseError, match="may not approve"):
            self.by_hand(ticket, world.asker.passkey, person=world.anna.passkey.person)

    def test_not_in_anothers_name(self, world: World) -> None:
        with pytest.raises(DatabaseError, match="may not approve"):
            self.by_hand(world.open(), world.anna.passkey, person=world.bert.passkey.person)

    def test_not_with_a_key_outside_the_set(self, world: World) -> None:
        ticket = world.open()
        world.next_set(world.anna, world.bert)
        second = world.open()
        with pytest.raises(DatabaseError, match="may not approve"):
            self.by_hand(second, world.carl.passkey)
        self.by_hand(
            ticket, world.carl.passkey
        )  # of the set that this one asks; it approves nothing any more

    def test_not_with_a_retired_key(self, world: World) -> None:
        ticket = world.open()
        passkey_retire(actor=world.anna.actor, passkey=world.anna.passkey)
        with pytest.raises(DatabaseError, match="may not approve"):
            self.by_hand(ticket, world.anna.passkey)

    def test_not_of_another_revision(self, world: World) -> None:
        ticket = world.open()
        for revision in (0, 2):
            with pytest.raises(DatabaseError):
                self.by_hand(ticket, world.anna.passkey, revision=revision)

    def test_not_of_what_is_over(self, world: World) -> None:
        ticket = ticket_revoke(actor=world.anna.actor, ticket=world.open())
        with pytest.raises(DatabaseError, match="may not approve"):
            self.by_hand(ticket, world.anna.passkey)

    def test_one_person_once(self, world: World) -> None:
        ticket = world.open_for_two()
        self.by_hand(ticket, world.anna.passkey)
        with pytest.raises(DatabaseError):
            self.by_hand(ticket, world.anna.passkey)

    def test_the_same_for_rejections(self, world: World) -> None:
        world.next_set(*world.approvers, world.asker)
        ticket = world.open()
        with pytest.raises(DatabaseError, match="may not reject"), transaction.atomic():
            Rejection.objects.create(
                ticket=ticket,
                revision=1,
                passkey=world.asker.passkey,
                person=world.asker.passkey.person,
                signature={},
            )


class TestPasskeys:
    @pytest.mark.parametrize("field", ["user_id", "public_key", "credential_id", "fingerprint"])
    def test_a_key_passes_to_nobody(self, world: World, field: str) -> None:
        values: dict[str, Any] = {"user_id": world.bert.user.pk}
        with pytest.raises(DatabaseError, match="stays its holder"), transaction.atomic():
            Passkey.objects.filter(pk=world.anna.passkey.pk).update(**{field: values.get(field, "ab")})

    def test_it_counts_forward_only(self, world: World) -> None:
        Passkey.objects.filter(pk=world.anna.passkey.pk).update(counter=9)
        with pytest.raises(DatabaseError, match="stays its holder"), transaction.atomic():
            Passkey.objects.filter(pk=world.anna.passkey.pk).update(counter=8)

    @pytest.mark.parametrize("field", ["retired_at", "cloned_at"])
    def test_what_is_out_of_use_stays_so(self, world: World, field: str) -> None:
        found = Passkey.objects.filter(pk=world.anna.passkey.pk)
        found.update(**{field: timezone.now()})
        with pytest.raises(DatabaseError, match="stays its holder"), transaction.atomic():
            found.update(**{field: None})

    def test_none_is_removed(self, world: World) -> None:
        with pytest.raises(DatabaseError, match="never removed"):
            run("DELETE FROM breakglass_passkey WHERE id = %s", world.anna.passkey.pk)


def test_a_review_blocks_by_the_database_too(world: World) -> None:
    """An emergency's that is not written: no ticket is made, whoever writes the row."""
    ended = ticket_end(actor=world.asker.actor, ticket=world.active(kind="emergency"))
    now = timezone.now()
    with pytest.raises(DatabaseError, match="begins as one that waits"), transaction.atomic():
        Ticket.objects.create(
            tenant=world.tenant,
            runtime=world.runtime,
            requester=world.asker.user,
            passkey=world.asker.passkey,
            kind="ordinary",
            approvers_set=ended.approvers_set,
            needed=1,
            seconds=600,
            asked_at=now,
            wait_until=now + timedelta(hours=1),
        )
    with pytest.raises(DatabaseError, match="reviews are kept"):
        run("DELETE FROM breakglass_review WHERE id = %s", Review.objects.get().pk)
