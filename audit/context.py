"""Who acts and on whose behalf: carried from a request or task to every entry it causes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

ActorKind = Literal["user", "system", "command", "anonymous"]


@dataclass(frozen=True)
class Actor:
    """Someone who causes a change. ``user`` is set for people: for permission checks, and for their name.

    The record holds kind and id only; a person's name stands beside it (:mod:`audit.personal`).
    """

    kind: ActorKind
    id: str
    user: "AbstractBaseUser | None" = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, user: "AbstractBaseUser | AnonymousUser") -> Self:
        """The actor behind a request; a stranger has no user, and so no permission."""
        if user.is_anonymous:
            return cls(kind="anonymous", id="")
        return cls(kind="user", id=str(user.pk), user=user)

    @property
    def subject(self) -> str:
        """Whose personal data this is about: ``user:7``; one name for all who did not sign in."""
        return f"{self.kind}:{self.id}" if self.id else self.kind


SYSTEM = Actor(kind="system", id="worker")
"""The control plane itself: workers that carry out what somebody else asked for."""


def command(name: str) -> Actor:
    """The actor of a management command run by an operator with a shell."""
    return Actor(kind="command", id=name)


def session_name(session_key: str | None) -> str:
    """What the record calls a session: it tells two apart and opens neither."""
    return sha256(session_key.encode()).hexdigest()[:16] if session_key else ""


def _no_session() -> str:
    return ""


def _nobody() -> Actor | None:
    return None


@dataclass(frozen=True)
class Context:
    """Where a change came from.

    ``session`` and ``asker`` are asked when an entry is written: a request that signs somebody in has
    neither when it begins, and most requests never need them.
    """

    request_id: str = ""
    task_id: str = ""
    address: str = ""
    """The caller's, in clear: it leaves this process only as a commitment."""
    address_commitment: str = ""
    """The same, made by the process that knew the address; set in tasks."""
    session: Callable[[], str] = _no_session
    """:func:`session_name` of the asker's session."""
    asker: Callable[[], Actor | None] = _nobody
    """Who is signed in, or on whose behalf a task runs."""


_current: ContextVar[Context] = ContextVar("audit_context", default=Context())  # noqa: B039 - frozen


def current() -> Context:
    """The context of the running request or task."""
    return _current.get()


@contextmanager
def bind(
    *,
    request_id: str = "",
    task_id: str = "",
    address: str = "",
    session: Callable[[], str] | None = None,
    asker: Callable[[], Actor | None] | None = None,
) -> Iterator[None]:
    """Set fields of :class:`Context` for a block; what is empty or not given is inherited."""
    before = current()
    with bind_only(
        replace(
            before,
            request_id=request_id or before.request_id,
            task_id=task_id or before.task_id,
            address=address or before.address,
            session=session or before.session,
            asker=asker or before.asker,
        )
    ):
        yield


@contextmanager
def bind_only(context: Context) -> Iterator[None]:
    """Set the whole context for a block; nothing is inherited."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
