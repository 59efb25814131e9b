"""Plain words for everything that the record can say."""

from typing import Any

import pytest

from portal.record.words import DEEDS, TOPICS, WORDS, Topic, actions, sentence, topic
from provisioning.models import Operation
from tests.portal.record_actions import actions as written


def test_every_action_has_words() -> None:
    """And there are words for no other: a renamed action takes its words along."""
    assert written() - set(WORDS) == set(), "write a sentence for these in portal/record/words.py"
    assert set(WORDS) - written() == set(), "no code writes these any more"


def test_every_kind_of_operation_has_words() -> None:
    assert set(DEEDS) == set(Operation.Kind.values)


def test_every_topic_of_a_tenant_has_a_label() -> None:
    """All but the fleet's, whose entries name no tenant."""
    assert set(TOPICS) == set(Topic) - {Topic.FLEET}
    assert {name for each in TOPICS for name in actions({each})} == {
        action for action, words in WORDS.items() if words.topic != Topic.FLEET
    }


@pytest.mark.parametrize(
    ("action", "data", "words"),
    [
        ("operation.requested", {"kind": "restart"}, "Asked to restart the machine"),
        ("operation.requested", {"kind": "new_kind"}, "Asked to new_kind"),
        (
            "operation.step_failed",
            {"kind": "start", "step": "reach", "code": "no_answer"},
            "Gave up a step to start the machine: Wait for the guest to answer (no_answer)",
        ),
        (
            "operation.step_failed",
            {"kind": "start", "step": "reach"},
            "Gave up a step to start the machine: Wait for the guest to answer (…)",
        ),
        ("operation.requested", {}, "Asked to …"),
        ("secret.put", {"name": "A" * 500, "version": 3}, f"Saved the secret {'A' * 120}, version 3"),
        ("secret.put", {"name": {"odd": 1}}, "Saved the secret …, version …"),
        ("secret.put", {"name": "{version}", "version": 3}, "Saved the secret {version}, version 3"),
        ("of.tomorrow", {"kind": "x"}, "of.tomorrow"),
    ],
)
def test_a_sentence(action: str, data: dict[str, Any], words: str) -> None:
    """With the facts of the event, dots where one is missing; a fact is never read as a sentence."""
    assert sentence(action, data) == words


def test_the_topic_of_an_unknown_action_is_empty() -> None:
    assert (topic("of.tomorrow"), topic("secret.put")) == ("", "secrets")
