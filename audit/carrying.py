"""Carries the context from whoever sends a task to whoever runs it.

A message's header holds it, signed: a broker could otherwise name anybody as the one who asked. It holds no
address in clear, only the commitment to it, and no session key, only the session's name.
"""

import logging
from functools import partial
from typing import Any

from celery import Task
from celery.signals import before_task_publish
from django.core import signing

from audit.context import Actor, Context, bind_only, current

HEADER = "portal_context"
_SALT = "audit context v1"
_MAXIMUM = 2048
log = logging.getLogger(__name__)


class ContextTask(Task):  # type: ignore[type-arg]
    """Runs in the context that its message carries, and under its own task id. The base of every task."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What a worker calls; called by other code, it inherits that code's context."""
        if self.request.id is None:
            return super().__call__(*args, **kwargs)
        with bind_only(received(getattr(self.request, HEADER, None), str(self.request.id))):
            return self.run(*args, **kwargs)


@before_task_publish.connect
def send(headers: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: ARG001 - the signal's
    """Put the context of the sender into the message."""
    if headers is not None and (packed := _packed(current())):
        headers[HEADER] = signing.dumps([str(headers.get("id")), packed], salt=_SALT)


def received(header: object, task_id: str) -> Context:
    """The context of a task: what the header carries, if it was signed for just this task."""
    said: dict[str, str] = {}
    try:
        if isinstance(header, str) and len(header) <= _MAXIMUM:
            signed_for, packed = signing.loads(header, salt=_SALT)
            said = packed if signed_for == task_id else {}
            if not said:
                log.warning("task %s: its context is another task's, and is left out", task_id[:64])
    except signing.BadSignature:
        log.warning("task %s: its context is not signed by us, and is left out", task_id[:64])
    kind: Any = said.get("kind", "")
    return Context(
        request_id=said.get("request", ""),
        task_id=task_id[:64],
        address_commitment=said.get("address", ""),
        session=partial(str, said.get("session", "")),
        asker=partial(_asker, Actor(kind, said.get("id", "")) if kind else None),
    )


def _asker(actor: Actor | None) -> Actor | None:
    return actor


def _packed(context: Context) -> dict[str, str]:
    asker = context.asker()
    signed_in = asker is not None and asker.kind == "user"
    said = {
        "request": context.request_id,
        "address": context.address_commitment or _committed(asker, context.address),
        "session": context.session() if signed_in else "",
        "kind": asker.kind if asker else "",
        "id": asker.id if asker else "",
    }
    return {name: value for name, value in said.items() if value}


def _committed(asker: Actor | None, address: str) -> str:
    """The commitment that the request's entry made. Without an entry there is none, and none is made here."""
    if not address:
        return ""
    from audit.personal import address_of, committed  # needs the models, which are loaded after Celery

    return committed(address_of(asker, address))
