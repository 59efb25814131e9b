"""Entries to sequence, and sequencers in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.db import transaction

from audit import log
from audit.context import command
from audit.models import Entry
from audit.sequencer import Sequencer
from audit.services import record

TESTER = command("test")


def write(count: int = 1) -> list[Entry]:
    """Some entries, committed in one transaction."""
    with transaction.atomic():
        return [record(action="thing.done", actor=TESTER, target=("thing", n)) for n in range(count)]


@pytest.fixture
def make_sequencer(settings_folder: Path) -> Callable[..., Sequencer]:
    def make(**more: object) -> Sequencer:
        given = {"seed": settings.LOG_KEY, "vkey": log.vkey(), "folder": settings_folder, **more}
        return Sequencer(**given)  # type: ignore[arg-type]

    return make


@pytest.fixture
def settings_folder() -> Path:
    """Where this test's sequencers remember what they signed."""
    return Path(settings.SEQUENCER_DIR)
