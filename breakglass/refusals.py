"""Why a ticket, an approval or a step of one is not taken. ``code`` is for machines.

``protocol.tickets`` raises the same for what is wrong with a ticket's document itself.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from protocol.tickets import TicketRefused

__all__ = ["TicketRefused", "in_sentences"]
P = ParamSpec("P")
R = TypeVar("R")


def in_sentences(service: Callable[P, R]) -> Callable[P, R]:
    """People read what this refuses: what ``protocol`` says in half a sentence becomes a whole one."""

    @wraps(service)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return service(*args, **kwargs)
        except TicketRefused as error:
            text = str(error)
            whole = text[:1].upper() + text[1:]
            error.args = (whole if whole.endswith((".", "?")) else f"{whole}.",)
            raise

    return wrapped
