"""Carries the context from whoever sends a task to whoever runs it.

A message's header holds it, signed under ``PORTAL_CONTEXT_KEY``: a broker could otherwise name anybody as
the one who asked. The signature binds it to the whole message (id, task, arguments) and ages, so that it
cannot be put on another. It holds no address in clear, only the commitment to it, and no session key, only
the session's name.
"""

import logging
from functools import partial
from hashlib import sha256
from typing import Any

from celery import Task
from celery.signals import before_task_publish
from django.conf import settings
from django.core import signing
from kombu.utils import json

from audit.context import Actor, Context, bind_only, current

HEADER = "portal_context"
MAX_AGE_SECONDS = 3600
"""A message that waited longer is nobody's. Lost ones are sent again within seconds: none waits so long."""
_SALT = "audit context v2"
_MAXIMUM = 2048
log = logging.getLogger(__name__)


class ContextTask(Task):  # type: ignore[type-arg]
    """Runs in the context that its message carries, and under its own task id. The base of every task."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What a worker calls; called by other code, it inherits that code's context."""
        if self.request.id is None:
            return super().__call__(*args, **kwargs)
        message = seal(self.request.id, self.name, args, kwargs)
        with bind_only(received(getattr(self.request, HEADER, None), str(self.request.id), message)):
            return self.run(*args, **kwargs)


@before_task_publish.connect
def send(
    sender: str = "",
    headers: dict[str, Any] | None = None,
    body: Any = ((), {}),
    **_: Any,
) -> None:
    """Put the context of the sender into the message."""
    if headers is not None and (packed := _packed(current())):
        message = seal(headers.get("id"), sender, body[0], body[1])
        headers[HEADER] = signing.dumps([message, packed], key=settings.CONTEXT_KEY, salt=_SALT)


def seal(task_id: object, name: str, args: Any, kwargs: Any) -> str:
    """What a context is signed for: SHA-256 of a message's id, task and arguments as the broker has them."""
    return sha256(json.dumps([str(task_id), name, args, kwargs], sort_keys=True).encode()).hexdigest()


def received(header: object, task_id: str, message: str) -> Context:
    """The context of a task: what the header carries, if it was signed for this :func:`seal`, and lately."""
    said = _opened(header, task_id[:64], message)
    kind: Any = said.get("kind", "")
    return Context(
        request_id=said.get("request", ""),
        task_id=task_id[:64],
        address_commitment=said.get("address", ""),
        session=partial(str, said.get("session", "")),
        asker=partial(_asker, Actor(kind, said.get("id", "")) if kind else None),
    )


def _opened(header: object, task_id: str, message: str) -> dict[str, str]:
    """What the header says; nothing where it cannot be believed. Its own words are not logged."""
    if not isinstance(header, str) or len(header) > _MAXIMUM:
        return {}
    try:
        signed_for, packed = signing.loads(
            header, key=settings.CONTEXT_KEY, salt=_SALT, max_age=MAX_AGE_SECONDS, fallback_keys=[]
        )
    except signing.SignatureExpired:
        log.warning("task %s: its context is too old, and is left out", task_id)
    except signing.BadSignature:
        log.warning("task %s: its context is not signed by us, and is left out", task_id)
    else:
        if signed_for == message:
            return dict(packed)
        log.warning("task %s: its context is another message's, and is left out", task_id)
    return {}


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
