"""Personal data outside the leaf: what is committed to, what opens it, and what is left when it is erased."""

import json
import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from audit import personal
from audit.context import SYSTEM, Actor, bind, command
from audit.erasure import personal_erase
from audit.models import AppendOnlyError, Entry, PersonalDatum
from audit.models.personal import DOES_NOT_OPEN
from audit.personal import Personal, commit, committed, forget, openings
from audit.services import EventTooLong, record
from protocol.merkle import leaf_hash
from protocol.personal import commitment
from tests.audit.opened import opened

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
NAME, ADDRESS = "maria.muster", "192.0.2.17"
REASON = "She asked us to, in writing."


@pytest.fixture
def maria() -> User:
    return User.objects.create_user(NAME, email="maria@example.com", first_name="Maria", last_name="Muster")


def write(actor: Actor = TESTER, **more: Any) -> Entry:
    with transaction.atomic():
        return record(action="thing.done", actor=actor, **more)


def event(entry: Entry) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(entry.event)
    return document


def by(user: User, address: str = ADDRESS) -> dict[str, Any]:
    with bind(address=address):
        return event(write(Actor.of(user)))


def test_a_leaf_holds_neither_name_nor_address(maria: User) -> None:
    """Only commitments, and they open to the person's name and address."""
    with bind(address=ADDRESS):
        entry = write(Actor.of(maria))
    for word in (NAME, ADDRESS, "maria@", "Maria", "Muster"):
        assert word not in entry.event
        assert word not in str([getattr(entry, each.attname) for each in Entry._meta.concrete_fields])
    opened = openings([event(entry)])[0]
    assert {role: (each.kind, each.value) for role, each in opened.items() if each} == {
        "actor": ("username", NAME),
        "address": ("address", ADDRESS),
    }


def test_a_commitment_is_the_protocols(maria: User) -> None:
    """What the table holds recomputes to what the leaf holds: by salt, kind and value."""
    said = by(maria)["personal"]
    for opening in openings([{"personal": said}])[0].values():
        assert opening is not None
        assert commitment(opening.salt, opening.kind, opening.value).hex() == opening.commitment
    assert set(said.values()) == set(PersonalDatum.objects.values_list("commitment", flat=True))


def test_what_opens_nothing_is_no_opening(maria: User) -> None:
    """Who may write the table can delete a row and insert the same commitment with another value."""
    said = by(maria)["personal"]
    row = PersonalDatum.objects.get(commitment=said["actor"])
    row.delete()
    for change in ({"value": "somebody else"}, {"kind": "reason"}, {"salt": bytes(32)}, {"value": "\ud800"}):
        usual = {each.attname: getattr(row, each.attname) for each in PersonalDatum._meta.concrete_fields}
        forged = PersonalDatum(**{**usual, **change})
        assert (forged.opens, forged.shown) == (False, DOES_NOT_OPEN)
    assert PersonalDatum(**usual).shown == NAME
    PersonalDatum.objects.create(**{**usual, "value": "somebody else"})
    assert openings([{"personal": said}])[0]["actor"] is None


def test_salts_differ(maria: User) -> None:
    """Two persons at one address have two commitments: the leaves do not say that they share it."""
    other = User.objects.create_user("other")
    assert by(maria)["personal"]["address"] != by(other)["personal"]["address"]
    salts = list(PersonalDatum.objects.values_list("salt", flat=True))
    assert len({bytes(salt) for salt in salts}) == len(salts) == 4


def test_one_value_is_inserted_once(maria: User) -> None:
    """The second entry of a person costs one statement: its own insertion."""
    first = by(maria)
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        assert by(maria)["personal"] == first["personal"]
    written = [each["sql"] for each in queries if not each["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(written) == 1, written
    assert 'INSERT INTO "audit_entry"' in written[0]


def test_another_process_finds_it(maria: User) -> None:
    """What this process does not remember, the table does."""
    first = by(maria)
    forget()
    assert by(maria)["personal"] == first["personal"]
    assert PersonalDatum.objects.count() == 2


def test_what_was_rolled_back_is_not_remembered(maria: User) -> None:
    """Or a later leaf would commit to something that nobody can open."""
    datum = Personal("user:1", "username", NAME)
    with pytest.raises(RuntimeError), transaction.atomic():
        commit(datum)
        raise RuntimeError
    assert committed(datum) == ""
    with transaction.atomic(), pytest.raises(RuntimeError), transaction.atomic():
        commit(datum)
        raise RuntimeError
    assert committed(datum) == ""
    with transaction.atomic():
        kept = commit(datum)
    assert PersonalDatum.objects.get().commitment == kept == committed(datum)


def test_without_its_entry_no_datum_stays(maria: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both or neither."""

    def broken(**kwargs: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Entry.objects, "create", broken)
    with pytest.raises(RuntimeError):
        by(maria)
    assert not PersonalDatum.objects.exists()


@pytest.mark.parametrize(("kind", "value"), [("e-mail", "x"), ("username", "x" * 513)])
def test_what_is_not_known_is_refused(kind: str, value: str) -> None:
    """A kind that docs/audit.md does not tell of; a value that no index row holds."""
    with pytest.raises(ValueError):
        write(personal={"thing": Personal("user:1", kind, value)})
    assert not Entry.objects.exists()


def test_the_longest_value_fits_the_index() -> None:
    """512 characters of four bytes each."""
    write(personal={"thing": Personal("user:1", "reason", "\U0001f600" * 512)})
    assert PersonalDatum.objects.count() == 1


def test_an_entry_that_no_tile_holds_is_refused() -> None:
    """60,000 bytes; one more is not recorded, and so does not happen."""
    room = 60_000 - len(write(data={"n": ""}).event.encode())
    write(data={"n": "x" * room})
    with pytest.raises(EventTooLong, match="60001 bytes"):
        write(data={"n": "x" * (room + 1)})


@pytest.mark.parametrize("signed_in", [False, True])
def test_who_is_behind_a_program(maria: User, signed_in: bool) -> None:
    """What the control plane does in a person's request names the person as its cause; one's own act does not."""
    asker = Actor.of(maria)
    with bind(asker=lambda: asker, session=lambda: "0123456789abcdef", address=ADDRESS):
        said = event(write(asker if signed_in else SYSTEM))
    assert said["session"] == "0123456789abcdef"
    assert said["cause"] == (None if signed_in else {"kind": "user", "id": str(maria.pk)})
    assert said["personal"].keys() == {"actor" if signed_in else "cause", "address"}


def test_a_strangers_session_is_not_recorded() -> None:
    """A cookie that nobody checked could be anything, a name for one."""
    with bind(session=lambda: "mariamuster", asker=lambda: Actor("anonymous", "")):
        said = event(write(Actor("anonymous", "")))
    assert (said["session"], said["cause"]) == ("", {"kind": "anonymous", "id": ""})


def erased(**more: Any) -> int:
    return personal_erase(actor=TESTER, reason=REASON, **more)


def test_an_erased_person_leaves_the_leaves_as_they_were(maria: User) -> None:
    """Every stored byte of every earlier entry stays; nothing opens any more; the log says what was erased."""
    other = User.objects.create_user("other")
    mine, theirs = by(maria), by(other)
    hashes = [leaf_hash(entry.event.encode()) for entry in Entry.objects.order_by("pk")]
    assert erased(subject=f"user:{maria.pk}") == 2
    after = list(Entry.objects.order_by("pk"))
    assert [leaf_hash(entry.event.encode()) for entry in after[:-1]] == hashes
    assert openings([mine]) == [{"actor": None, "address": None}]
    assert all(openings([theirs])[0].values())
    said = event(after[-1])
    assert (said["action"], said["target"]["id"]) == ("personal.erased", f"user:{maria.pk}")
    assert set(said["data"]["commitments"]) == set(mine["personal"].values())
    assert said["data"]["kinds"] == {"username": 1, "address": 1}
    assert NAME not in str(list(PersonalDatum.objects.values_list()))


def test_what_is_erased_cannot_be_guessed(maria: User) -> None:
    """The salt goes with the value: no row of any table holds it any more."""
    by(maria)
    salts = [bytes(salt).hex() for salt in PersonalDatum.objects.values_list("salt", flat=True)]
    erased(subject=f"user:{maria.pk}")
    assert not any(salt in entry.event for salt in salts for entry in Entry.objects.all())
    left = {bytes(salt).hex() for salt in PersonalDatum.objects.values_list("salt", flat=True)}
    assert left.isdisjoint(salts)


def test_a_person_who_acts_again_is_committed_to_anew(maria: User) -> None:
    """The old leaves stay closed."""
    first = by(maria)
    erased(subject=f"user:{maria.pk}")
    again = by(maria)
    assert set(first["personal"].values()).isdisjoint(again["personal"].values())
    assert openings([first]) == [{"actor": None, "address": None}]
    assert all(openings([again])[0].values())


def test_addresses_by_age(maria: User) -> None:
    """A kind, before a time: what is younger stays, and so does every other kind."""
    old = by(maria)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE audit_personaldatum SET made_at = %s", [timezone.now() - timedelta(days=100)])
    new = by(maria, "192.0.2.99")
    assert erased(kind="address", before=timezone.now() - timedelta(days=90)) == 1
    assert [role for role, each in openings([old])[0].items() if each] == ["actor"]
    assert all(openings([new])[0].values())


def test_more_than_one_entry_names(maria: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each erased commitment is named once, by as many entries as it takes; the reasons for it stay."""
    monkeypatch.setattr("audit.erasure.NAMED", 2)
    said = {by(maria, f"192.0.2.{number}")["personal"]["address"] for number in range(5)}
    assert erased(kind="address") == 5
    entries = [event(entry) for entry in Entry.objects.filter(action="personal.erased").order_by("pk")]
    assert [len(entry["data"]["commitments"]) for entry in entries] == [2, 2, 1]
    assert {each for entry in entries for each in entry["data"]["commitments"]} == said
    assert erased(kind="reason") == 1


def test_whoever_erases_themselves_is_named_anew(maria: User) -> None:
    """The entry of the erasure does not refer to what it has just erased."""
    maria.user_permissions.add(Permission.objects.get(codename="delete_personaldatum"))
    actor = Actor.of(User.objects.get(pk=maria.pk))
    by(maria)
    personal_erase(actor=actor, reason=REASON, subject=f"user:{maria.pk}")
    said = event(Entry.objects.latest("pk"))
    assert all(openings([said])[0].values())
    assert said["personal"]["actor"] not in said["data"]["commitments"]


def test_without_its_entry_nothing_is_erased(maria: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1 holds here, too."""
    said = by(maria)

    def broken(**kwargs: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Entry.objects, "create", broken)
    with pytest.raises(RuntimeError):
        erased(subject=f"user:{maria.pk}")
    assert all(openings([said])[0].values())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "whose data"),
        ({"kind": "shoe size"}, "Give one of: username"),
        ({"subject": "user:1", "reason": "short"}, "10 characters or more"),
    ],
)
def test_what_an_erasure_asks_for(given: dict[str, str], told: str) -> None:
    """Never everything at once by an empty field; always a reason."""
    with pytest.raises(ValidationError, match=told):
        personal_erase(**{"actor": TESTER, "reason": REASON, **given})  # type: ignore[arg-type]


def test_only_who_may_erases(maria: User) -> None:
    """A person needs the permission; nobody anonymous has it."""
    for actor in (Actor.of(maria), Actor("anonymous", "")):
        with pytest.raises(PermissionDenied):
            personal_erase(actor=actor, reason=REASON, subject="user:1")


def test_a_datum_is_never_changed(maria: User) -> None:
    """A changed value would not open its commitment; a second row of one commitment is refused."""
    by(maria)
    row = PersonalDatum.objects.first()
    assert row is not None
    for attempt in (row.save, lambda: PersonalDatum.objects.update(value="x")):
        with pytest.raises(AppendOnlyError):
            attempt()
    with pytest.raises(IntegrityError), transaction.atomic():
        PersonalDatum.objects.create(
            subject="x", kind="x", value="x", salt=bytes(32), commitment=row.commitment, made_at=row.made_at
        )


def test_what_a_process_remembers_ends(maria: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute it asks again, so that what another process has erased is not referred to for ever."""
    first = by(maria)
    PersonalDatum.objects.all().delete()
    assert by(maria)["personal"] == first["personal"], "for a minute"
    later = time.monotonic() + personal.REMEMBERED_SECONDS + 1
    monkeypatch.setattr("audit.personal.time.monotonic", lambda: later)
    assert set(by(maria)["personal"].values()).isdisjoint(first["personal"].values())


def test_what_a_process_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers' addresses are as many as they like."""
    monkeypatch.setattr(personal, "_REMEMBERED_MAXIMUM", 3)
    for number in range(10):
        with bind(address=f"192.0.2.{number}"):
            write(Actor("anonymous", ""))
        assert len(personal._known) <= 3


def test_the_demo_people_are_named_beside_the_leaf() -> None:
    """Their entries commit to their names."""
    call_command("demo_people", stdout=StringIO())
    entries = Entry.objects.filter(action="user.created").order_by("pk")
    assert [opened(entry)["user"] for entry in entries] == ["operator", "owner"]
    assert not any("owner" in entry.event for entry in entries)
