"""``manage.py personal_erase``: what an operator with a shell does when somebody asks to be forgotten."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from audit.context import Actor, bind
from audit.models import Entry, PersonalDatum
from audit.services import record

pytestmark = pytest.mark.django_db
REASON = "They asked us to, in writing."


@pytest.fixture(autouse=True)
def visited() -> None:
    """A stranger from some address."""
    with bind(address="192.0.2.17"), transaction.atomic():
        record(action="thing.done", actor=Actor("anonymous", ""))


def erase(*arguments: str, reason: str = REASON) -> str:
    out = StringIO()
    call_command("personal_erase", *arguments, "--reason", reason, stdout=out)
    return out.getvalue()


def test_a_subject_is_erased() -> None:
    """It says how many, and what backups still hold; the entry names the command, and no address."""
    assert erase("--subject", "anonymous") == "1 erased. Backups made before now still hold them.\n"
    entry = Entry.objects.latest("pk")
    assert (entry.action, entry.actor_kind, entry.actor_id) == (
        "personal.erased",
        "command",
        "personal_erase",
    )
    assert "192.0.2.17" not in entry.event
    assert list(PersonalDatum.objects.values_list("kind", flat=True)) == ["reason"]


def test_only_what_is_older() -> None:
    """The day given is not included."""
    assert erase("--kind", "address", "--before", "2020-01-31").startswith("0 erased")
    assert erase("--kind", "address", "--before", "2999-01-31").startswith("1 erased")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--subject", "anonymous", "--before", "tomorrow"], "2026-01-31"),
        (["--subject", "anonymous", "--before", "2026-02-31"], "2026-01-31"),
        ([], "whose data"),
        (["--kind", "shoe"], "invalid choice"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], told: str) -> None:
    """And nothing is erased."""
    with pytest.raises(CommandError, match=told):
        erase(*arguments)
    assert PersonalDatum.objects.count() == 1


def test_a_reason_is_asked_for() -> None:
    """Ten characters or more."""
    with pytest.raises(CommandError, match="10 characters"):
        erase("--subject", "anonymous", reason="short")
