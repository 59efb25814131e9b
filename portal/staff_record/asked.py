"""What staff type into the search form, turned into filters within their scope."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from audit.search import Filters
from tenants.models import Tenant
from tenants.selectors import Person, tenants_for

_ACTION = re.compile(r"[a-z_]+(\.[a-z_.]+)?")
_TYPE = re.compile(r"[a-z][a-z_]*")
_NOBODY: tuple[tuple[str, str], ...] = ()


class SearchForm(forms.Form):
    """Every field narrows; all may be left empty."""

    q = forms.CharField(label="Words", max_length=200, required=False)
    tenant = forms.CharField(max_length=64, required=False)
    actor = forms.CharField(max_length=150, required=False)
    action = forms.CharField(max_length=80, required=False)
    target = forms.CharField(max_length=110, required=False)
    request = forms.CharField(max_length=64, required=False)
    since = forms.DateTimeField(label="From (UTC)", required=False)
    until = forms.DateTimeField(label="Before (UTC)", required=False)

    HINTS = {
        "q": "beginnings of words, all of them",
        "tenant": "short name or id",
        "actor": "user name, kind, or kind:id",
        "action": "tenant.created, or tenant",
        "target": "type, id, or type:id",
        "request": "the whole id",
    }

    def __init__(self, *args: Any, person: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.person = person
        for name, field in self.fields.items():
            field.widget.attrs["placeholder"] = self.HINTS.get(name, "2026-01-31 13:00")

    def clean_action(self) -> str:
        """``thing`` or ``thing.verb``."""
        given: str = self.cleaned_data["action"].strip().lower()
        if given and not _ACTION.fullmatch(given):
            raise ValidationError("Give an action such as tenant.created, or its first word.")
        return given

    def clean_since(self) -> datetime | None:
        """In UTC."""
        return _in_utc(self.cleaned_data["since"])

    def clean_until(self) -> datetime | None:
        """In UTC."""
        return _in_utc(self.cleaned_data["until"])

    def clean(self) -> dict[str, Any]:
        """The times must leave something between them."""
        given = super().clean() or {}
        since, until = given.get("since"), given.get("until")
        if since and until and since >= until:
            self.add_error("until", "Give a time after the first.")
        return given

    @property
    def filters(self) -> Filters:
        """For a valid form."""
        given = self.cleaned_data
        target_type, target_id = _target(given["target"].strip())
        return Filters(
            scope=scope_of(self.person),
            tenant=_tenant(self.person, given["tenant"].strip()),
            actors=_actors(given["actor"].strip()),
            action=given["action"],
            target_type=target_type,
            target_id=target_id,
            request_id=given["request"].strip(),
            since=given["since"],
            until=given["until"],
            text=given["q"],
        )

    def asked(self) -> dict[str, str]:
        """What was typed, without what was left empty: for links and for the record."""
        return {name: value for name in self.fields if (value := str(self.data.get(name, "")).strip())}


def scope_of(person: Person) -> tuple[UUID, ...] | None:
    """The tenants whose entries ``person`` may read; None: all. As :func:`portal.selectors.entries_for`."""
    if not isinstance(person, User) or not (person.is_active and person.is_staff):
        return ()
    if person.has_perm("tenants.operate_tenant"):
        return None
    return tuple(tenants_for(person).values_list("pk", flat=True))


def _in_utc(moment: datetime | None) -> datetime | None:
    """A zone may be given, and leave no year for the time in UTC, in which databases compare."""
    try:
        return moment.astimezone(UTC) if moment else None
    except OverflowError:
        raise ValidationError("Give a time between the years 1 and 9999 in UTC.") from None


def _tenant(person: Person, given: str) -> UUID | None:
    """By id or short name; one that is not theirs is one that no entry names."""
    if not given:
        return None
    try:
        return UUID(given)
    except ValueError:
        found = tenants_for(person).filter(slug=given).values_list("pk", flat=True).first()
        if found is None and isinstance(person, User) and person.has_perm("tenants.operate_tenant"):
            found = Tenant.objects.filter(slug=given).values_list("pk", flat=True).first()
        return found or UUID(int=0)


def _actors(given: str) -> tuple[tuple[str, str], ...] | None:
    """A person by name; otherwise a kind, or a kind with an id. A name that nobody has finds nothing."""
    if not given:
        return None
    kind, colon, actor = given.partition(":")
    if colon:
        return ((kind, actor),)
    person = User.objects.filter(username=given).values_list("pk", flat=True).first()
    if person is not None:
        return (("user", str(person)),)
    return ((given, "*"),) if given in {"user", "system", "command", "anonymous"} else _NOBODY


def _target(given: str) -> tuple[str, str]:
    """A type and an id; a single lower-case word is a type."""
    kind, colon, identifier = given.partition(":")
    if colon:
        return kind, identifier
    return (given, "") if _TYPE.fullmatch(given) else ("", given)
