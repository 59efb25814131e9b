"""Who asked, and from where, travels from the request to the worker; nobody else can write it."""

import json
import logging
import queue
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from django.contrib.auth.models import User
from django.core import signing
from django.db import transaction

from audit.carrying import _SALT, HEADER, ContextTask, received
from audit.context import Actor, Context, bind, current
from audit.models import Entry
from audit.services import record
from portal.celery import app as portal_app

pytestmark = pytest.mark.django_db(transaction=True)
ADDRESS = "192.0.2.17"
Sent = dict[str, Any]


class Line:
    """A broker in memory, a worker on it in a thread, and what its tasks saw."""

    def __init__(self, app: "Celery[Any]") -> None:
        self.app = app
        self.seen: queue.Queue[Context] = queue.Queue()

        @app.task(name="look", shared=False)
        def look() -> None:
            self.seen.put(current())

        @app.task(name="pass_on", shared=False)
        def pass_on() -> None:
            self.app.send_task("look")

    def ask(self, task: str = "look", **options: Any) -> Context:
        self.app.send_task(task, **options)
        return self.seen.get(timeout=30)


@pytest.fixture
def line() -> Iterator[Line]:
    app: Celery[Any] = Celery("line", broker="memory://", task_cls=ContextTask, set_as_current=False)
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)
    made = Line(app)
    with start_worker(app, pool="solo", perform_ping_check=False):
        yield made


@pytest.fixture
def maria() -> Actor:
    return Actor.of(User.objects.create_user("maria"))


def asking(actor: Actor) -> Any:
    return bind(request_id="r-1", address=ADDRESS, session=lambda: "0123456789abcdef", asker=lambda: actor)


def test_a_task_knows_who_asked(line: Line, maria: Actor) -> None:
    """Request, session and person; the address as the commitment that the request's entry holds."""
    with asking(maria):
        with transaction.atomic():
            entry = record(action="thing.asked", actor=maria)
        there = line.ask(task_id="t-1")
    assert (there.request_id, there.task_id, there.session()) == ("r-1", "t-1", "0123456789abcdef")
    assert there.asker() == maria
    assert there.address == ""
    assert there.address_commitment == json.loads(entry.event)["personal"]["address"]


def test_a_task_passes_it_on(line: Line, maria: Actor) -> None:
    """A task that a task sends has the same cause, and an id of its own."""
    with asking(maria):
        there = line.ask("pass_on", task_id="t-1")
    assert (there.request_id, there.asker()) == ("r-1", maria)
    assert there.task_id not in {"t-1", ""}


def test_the_next_task_knows_nothing_of_it(line: Line, maria: Actor) -> None:
    """A worker forgets: the same process runs for others."""
    with asking(maria):
        line.ask()
    there = line.ask()
    assert (there.request_id, there.asker(), there.session(), there.address_commitment) == ("", None, "", "")


def message(actor: Actor) -> Sent:
    """The headers as the broker sees them."""
    sent: list[Sent] = []
    from celery.signals import before_task_publish

    def keep(headers: Sent, **kwargs: Any) -> None:
        sent.append(headers)

    before_task_publish.connect(keep, weak=False, dispatch_uid="keep")
    try:
        app = Celery("line", broker="memory://", task_cls=ContextTask, set_as_current=False)
        with asking(actor):
            app.send_task("look", task_id="t-1")
    finally:
        before_task_publish.disconnect(dispatch_uid="keep")
    return sent[0]


def test_no_address_and_no_name_is_in_the_message(maria: Actor) -> None:
    """The broker keeps messages on disk; without an entry that committed to it, the address goes nowhere."""
    headers = message(maria)
    said = signing.loads(headers[HEADER], salt=_SALT)
    assert ADDRESS not in str(said)
    assert "maria" not in str(said)
    assert said == ["t-1", {"request": "r-1", "session": "0123456789abcdef", "kind": "user", "id": maria.id}]


@pytest.mark.parametrize(
    "forge",
    [
        lambda header: header[:-1] + ("A" if header[-1] != "A" else "B"),
        lambda header: signing.dumps(["t-1", {"kind": "user", "id": "1"}], salt="another purpose"),
        lambda header: signing.dumps(["t-1", {"kind": "user", "id": "1"}], salt=_SALT, key="another key"),
        lambda header: signing.dumps(["t-2", {"kind": "user", "id": "1"}], salt=_SALT),
        lambda header: {"kind": "user", "id": "1"},
        lambda header: "x" * 3000,
        lambda header: None,
    ],
    ids=["changed", "purpose", "key", "another task's", "plain", "long", "none"],
)
def test_a_forged_context_is_left_out(maria: Actor, forge: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes to the broker names nobody: the task runs, and its entries have no cause."""
    true = message(maria)[HEADER]
    assert received(true, "t-1").asker() == maria
    there = received(forge(true), "t-1")
    assert (there.asker(), there.request_id, there.task_id) == (None, "", "t-1")
    assert not any(maria.id in line.getMessage() for line in caplog.records if line.levelno > logging.INFO)


def test_every_task_of_the_portal_carries_it() -> None:
    """The base class of all: a task added tomorrow has it, too."""
    portal_app.loader.import_default_modules()
    tasks = [task for name, task in portal_app.tasks.items() if not name.startswith("celery.")]
    assert len(tasks) > 10
    for task in tasks:
        assert isinstance(task, ContextTask), task.name


def test_what_a_worker_records(maria: Actor) -> None:
    """The worker acts, the person is the cause; the entry's address opens as the request's does."""
    with asking(maria), transaction.atomic():
        first = record(action="thing.asked", actor=maria)
    with asking(maria):
        app = Celery("line", broker="memory://", task_cls=ContextTask, set_as_current=False)
        from audit.carrying import send

        headers: Sent = {"id": "t-1"}
        send(headers=headers)

    @app.task(name="work", shared=False)
    def work() -> None:
        with transaction.atomic():
            record(action="thing.done", actor=Actor("system", "worker"))

    work.push_request(id="t-1", **{HEADER: headers[HEADER]})
    try:
        work()
    finally:
        work.pop_request()
    said = json.loads(Entry.objects.latest("pk").event)
    assert said["cause"] == {"kind": "user", "id": maria.id}
    assert (said["request"], said["task"], said["session"]) == ("r-1", "t-1", "0123456789abcdef")
    assert said["personal"] == {"address": json.loads(first.event)["personal"]["address"]}
