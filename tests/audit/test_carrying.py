"""Who asked, and from where, travels from the request to the worker; nobody else can write it."""

import json
import logging
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.contrib.testing.app import setup_default_app
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.db import transaction

from audit.carrying import _SALT, HEADER, MAX_AGE_SECONDS, ContextTask, received, seal
from audit.context import Actor, Context, bind, current
from audit.models import Entry
from audit.services import record
from deploy.portalctl import environments
from deploy.portalctl.places import Places
from deploy.portalctl.users import ALONE
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
        def look(*args: Any, **kwargs: Any) -> None:
            self.seen.put(current())

        @app.task(name="delete", shared=False)
        def delete(*args: Any, **kwargs: Any) -> None:
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
    # Such a worker makes its application the whole process's; the block gives that back.
    with setup_default_app(app), start_worker(app, pool="solo", perform_ping_check=False):
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
            app.send_task("look", ("a", {"b": 1}), {"c": [2]}, task_id="t-1", queue="nobody's")
    finally:
        before_task_publish.disconnect(dispatch_uid="keep")
    return sent[0]


def test_no_address_and_no_name_is_in_the_message(maria: Actor) -> None:
    """The broker keeps messages on disk; without an entry that committed to it, the address goes nowhere."""
    headers = message(maria)
    said = signing.loads(headers[HEADER], key=settings.CONTEXT_KEY, salt=_SALT)
    assert ADDRESS not in str(said)
    assert "maria" not in str(said)
    assert said == [SENT, {"request": "r-1", "session": "0123456789abcdef", "kind": "user", "id": maria.id}]


SENT = seal("t-1", "look", ("a", {"b": 1}), {"c": [2]})
ME = {"kind": "user", "id": "1"}


def signed(message: str, *, salt: str = _SALT, key: bytes | str | None = None) -> str:
    return signing.dumps([message, ME], salt=salt, key=key or settings.CONTEXT_KEY)


@pytest.mark.parametrize(
    "forge",
    [
        lambda header: header[:-1] + ("A" if header[-1] != "A" else "B"),
        lambda header: signed(SENT, salt="another purpose"),
        lambda header: signed(SENT, key="another key"),
        lambda header: signed(SENT, key=settings.SECRET_KEY),
        lambda header: ME,
        lambda header: "x" * 3000,
        lambda header: None,
    ],
    ids=["changed", "purpose", "key", "secret key", "plain", "long", "none"],
)
def test_a_forged_context_is_left_out(maria: Actor, forge: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes to the broker names nobody: the task runs, and its entries have no cause."""
    true = message(maria)[HEADER]
    assert received(true, "t-1", SENT).asker() == maria
    there = received(forge(true), "t-1", SENT)
    assert (there.asker(), there.request_id, there.task_id) == (None, "", "t-1")
    warned = [line.getMessage() for line in caplog.records if line.levelno > logging.INFO]
    assert set(warned) <= {"task t-1: its context is not signed by us, and is left out"}


def test_what_is_forged_would_be_believed_if_it_were_ours() -> None:
    """So that the refusals above mean something."""
    assert received(signed(SENT), "t-1", SENT).asker() == Actor("user", "1")


@pytest.mark.parametrize(
    "put_on",
    [
        ("t-2", "look", ("a", {"b": 1}), {"c": [2]}),
        ("t-1", "delete", ("a", {"b": 1}), {"c": [2]}),
        ("t-1", "look", ("another", {"b": 1}), {"c": [2]}),
        ("t-1", "look", ("a", {"b": 1}), {"c": [3]}),
        ("t-1", "look", (), {}),
    ],
    ids=["id", "task", "args", "kwargs", "none"],
)
def test_a_context_does_not_fit_another_message(line: Line, maria: Actor, put_on: Any) -> None:
    """Nor does one whose id was kept and whose task or arguments were exchanged."""
    true = message(maria)[HEADER]
    identifier, name, args, kwargs = put_on
    assert received(true, identifier, seal(*put_on)).asker() is None
    sent = line.ask(name, args=args, kwargs=kwargs, task_id=identifier, headers={HEADER: true})
    assert (sent.asker(), sent.task_id) == (None, identifier)


def test_arguments_are_sealed_as_the_broker_carries_them(line: Line, maria: Actor) -> None:
    """A tuple arrives as a list, a UUID by way of text: the seal still fits."""
    with asking(maria):
        there = line.ask("look", args=(1, ("a", "b"), uuid4()), kwargs={"z": None, "a": {"y": 1, "b": 2}})
    assert there.asker() == maria


def test_a_context_ages(maria: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old message that is delivered once more is nobody's."""
    true = message(maria)[HEADER]
    now = time.time()
    monkeypatch.setattr("django.core.signing.time.time", lambda: now + MAX_AGE_SECONDS - 60)
    assert received(true, "t-1", SENT).asker() == maria
    monkeypatch.setattr("django.core.signing.time.time", lambda: now + MAX_AGE_SECONDS + 1)
    assert received(true, "t-1", SENT).asker() is None


ROOT = Path(__file__).resolve().parents[2]
WEB = """
import json, django
django.setup()
from audit.carrying import send
from audit.context import Actor, bind
headers = {"id": "t-1"}
with bind(request_id="r-1", asker=lambda: Actor("user", "7")):
    send(sender="work", headers=headers, body=(("x",), {}, {}))
print(json.dumps(headers))
"""
WORKER = """
import json, sys, django
django.setup()
from audit.carrying import HEADER, received, seal
there = received(json.load(sys.stdin)[HEADER], "t-1", seal("t-1", "work", ["x"], {}))
print(there.request_id, there.asker())
"""


@pytest.fixture
def as_role(tmp_path: Path) -> Callable[..., str]:
    """Runs a program with the environment that `make up` writes for a role, and nothing else."""
    places = Places(ROOT, tmp_path / "state")
    places.env.mkdir(parents=True)
    environments.write_all(places, ALONE, uri="qemu:///system")

    def run(role: str, program: str, given: str = "") -> str:
        told = environments.parse((places.env / f"{role}.env").read_text())
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **told},
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()

    return run


@pytest.mark.parametrize(
    ("sender", "worker"), [("web", "worker"), ("worker", "worker"), ("manage", "worker")]
)
def test_it_arrives_between_the_roles_of_make_up(
    as_role: Callable[..., str], sender: str, worker: str
) -> None:
    """Each role has a SECRET_KEY of its own, so this cannot be what signs."""
    assert as_role(worker, WORKER, as_role(sender, WEB)) == f"r-1 {Actor('user', '7')}"


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
        send(sender="work", headers=headers)

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
