"""The form of a ticket: what is sent, what a ticket says of it, and the words beside each field."""

from typing import Any

import pytest
from django.http import QueryDict

from portal.breakglass.asked import Asked, FormRefused
from portal.breakglass.words import duration

WHY = "The gateway fails since noon; I look for the cause."
GOOD: dict[str, Any] = {"reason": WHY, "scopes": ["logs:read"], "minutes": "30"}


def asked(**changes: Any) -> Asked:
    form = QueryDict(mutable=True)
    for name, value in (GOOD | changes).items():
        form.setlist(name, value if isinstance(value, list) else [value])
    return Asked.of(form)


def wrong(**changes: Any) -> dict[str, str]:
    with pytest.raises(FormRefused) as refused:
        asked(**changes)
    return refused.value.fields


def test_what_is_asked() -> None:
    """Paths are sorted and cleaned; a scope without them has none, whatever the field holds."""
    assert asked(paths="notes.md") == Asked("ordinary", WHY, "", ["logs:read"], [], 1800)
    files = asked(
        scopes=["workspace:read"],
        paths=" notes.md \r\n\r\nb/\na\nnotes.md",
        incident="https://t.example.org/7",
        kind="emergency",
        minutes="15",
    )
    assert files == Asked(
        "emergency", WHY, "https://t.example.org/7", ["workspace:read"], ["a", "b", "notes.md"], 900
    )


def test_line_ends_and_accents_have_one_form() -> None:
    """What is signed is what approvers read, whichever browser it came from."""
    assert asked(reason=f"{WHY}\r\nCafe\u0301\r\n").reason == f"{WHY}\nCaf\u00e9"


def test_who_may_write_may_read() -> None:
    assert asked(scopes=["workspace:write"], whole="yes").scopes == ["workspace:read", "workspace:write"]


def test_the_whole_workspace_is_one_path() -> None:
    assert asked(scopes=["exec"], whole="yes", paths="a\nb").paths == [""]


def test_what_a_ticket_says_fills_the_form() -> None:
    """And the form says the same again."""
    first = asked(scopes=["workspace:read"], paths="a/b", minutes="120")
    document = {name: getattr(first, name) for name in first.__dataclass_fields__} | {"nonce": "0" * 32}
    again = Asked.again(document)
    assert (again, again.minutes, again.whole) == (first, 120, False)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"reason": "too short"}, "reason", "20 to 2000"),
        ({"reason": " " * 40}, "reason", "These are 0"),
        ({"reason": "x" * 2001}, "reason", "These are 2001"),
        ({"incident": "javascript:alert(1)"}, "incident", "https://"),
        ({"incident": "https://x " + "y"}, "incident", "https://"),
        ({"incident": "https://" + "x" * 500}, "incident", "At most 500"),
        ({"scopes": []}, "scopes", "one or more"),
        ({"scopes": ["root"]}, "scopes", "one or more"),
        ({"kind": "emergency", "scopes": ["exec"], "whole": "yes", "minutes": "5"}, "scopes", "only reads"),
        ({"scopes": ["workspace:read"]}, "paths", "at least one"),
        ({"scopes": ["exec"], "paths": "a"}, "paths", "whole workspace"),
        ({"scopes": ["workspace:read"], "paths": "/etc/passwd"}, "paths", "first /"),
        ({"scopes": ["workspace:read"], "paths": "a/../b"}, "paths", "a/../b"),
        ({"scopes": ["workspace:read"], "paths": "a//b"}, "paths", "a//b"),
        ({"scopes": ["workspace:read"], "paths": "\n".join(map(str, range(33)))}, "paths", "32"),
        ({"minutes": "241"}, "minutes", "1 to 240"),
        ({"minutes": "0"}, "minutes", "1 to 240"),
        ({"minutes": "-5"}, "minutes", "1 to 240"),
        ({"minutes": "٣"}, "minutes", "1 to 240"),
        ({"kind": "emergency", "minutes": "16"}, "minutes", "1 to 15"),
    ],
)
def test_each_field_says_what_to_change(changes: dict[str, Any], field: str, words: str) -> None:
    found = wrong(**changes)
    assert set(found) == {field}
    assert words in found[field]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert set(wrong(reason="", scopes=[], minutes="x", incident="ftp://x")) == {
        "reason",
        "incident",
        "scopes",
        "minutes",
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (60, "1 minute"),
        (1800, "30 minutes"),
        (3600, "1 hour"),
        (5400, "1 hour 30 minutes"),
        (90, "90 seconds"),
    ],
)
def test_a_length_in_words(seconds: int, words: str) -> None:
    assert duration(seconds) == words
