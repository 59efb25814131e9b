"""Who acts and on whose behalf: carried from a request or task to every entry it causes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

ActorKind = Literal["user", "system", "command", "anonymous"]


@dataclass(frozen=True)
class Actor:
    """Someone who causes a change. ``user`` is set for people, for permission checks; it is not recorded."""

    kind: ActorKind
    id: str
    user: "AbstractBaseUser | None" = None

    @classmethod
    def of(cls, user: "AbstractBaseUser | AnonymousUser") -> Self:
        """The actor behind a request; a stranger has no user, and so no permission."""
        if user.is_anonymous:
            return cls(kind="anonymous", id="")
        return cls(kind="user", id=str(user.pk), user=user)


SYSTEM = Actor(kind="system", id="worker")
"""The control plane itself: workers that carry out what somebody else asked for."""


def command(name: str) -> Actor:
    """The actor of a management command run by an operator with a shell."""
    return Actor(kind="command", id=name)


@dataclass(frozen=True)
class Context:
    """Where a change came from."""

    request_id: str = ""
    task_id: str = ""
    address: str = ""


_current: ContextVar[Context] = ContextVar("audit_context", default=Context())  # noqa: B039 - frozen


def current() -> Context:
    """The context of the running request or task."""
    return _current.get()


@contextmanager
def bind(*, request_id: str = "", task_id: str = "", address: str = "") -> Iterator[None]:
    """Set the context for a block; values left empty are inherited."""
    given = {k: v for k, v in {"request_id": request_id, "task_id": task_id, "address": address}.items() if v}
    token = _current.set(replace(_current.get(), **given))
    try:
        yield
    finally:
        _current.reset(token)
