"""One change that a route can make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.test import Client

from tests.portal.conftest import World

Do = Callable[[World, Client], Any]


@dataclass(frozen=True)
class Case:
    """Its request, the newest entry after it, who makes it, and what stands before."""

    do: Do
    action: str
    role: str = "superuser"
    before: Callable[[World], Any] | None = None
