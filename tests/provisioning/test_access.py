"""Closing members' access: by owners and operators, told to the guest within seconds, kept over restarts."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import Actor, command
from audit.models import Entry
from provisioning import access, tasks
from provisioning.models import Operation, Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from provisioning.services import (
    PermissionRefused,
    access_close,
    access_reopen,
    operation_request,
)
from tenants.models import Membership, Tenant
from tenants.services import membership_add
from tests.provisioning.test_calls import client
from tests.provisioning.workers import drain

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


def test_close_and_reopen(runtime: Runtime) -> None:
    """The guest is told and confirms; what it confirmed is noted; both are on record."""
    access_close(actor=TESTER, runtime_id=runtime.pk)
    assert list(access.unconfirmed()) == [runtime]
    access.apply(runtime.pk)
    assert client(runtime).status()["suspended"] is True
    assert list(access.unconfirmed()) == []
    access_reopen(actor=TESTER, runtime_id=runtime.pk)
    access.apply(runtime.pk)
    assert client(runtime).status()["suspended"] is False
    assert list(
        Entry.objects.filter(action__startswith="access.").order_by("pk").values_list("action", flat=True)
    ) == ["access.closed", "access.reopened"]


def test_a_guest_that_is_off_is_told_at_its_start(runtime: Runtime) -> None:
    """The step that confirms a start confirms this too, so no window stays open."""
    stop = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.STOP)
    assert drain(stop).state == Operation.State.SUCCEEDED
    access_close(actor=TESTER, runtime_id=runtime.pk)
    access.apply(runtime.pk)
    assert Runtime.objects.get().access_closed_seen is False
    start = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.START)
    assert drain(start).state == Operation.State.SUCCEEDED
    assert Runtime.objects.get().access_closed_seen is True
    assert client(runtime).status()["suspended"] is True


def test_a_guest_that_does_not_answer_is_asked_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task fails softly, and the sweeper sends it again until the guest confirms."""
    access_close(actor=TESTER, runtime_id=runtime.pk)

    def silent(*args: Any, **given: Any) -> None:
        raise AgentUnreachable("No answer.")

    sent: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, "_send", silent)
        tasks.access_apply(str(runtime.pk))
        patch.setattr(tasks.access_apply, "delay", sent.append)
        tasks.operations_sweep()
    assert sent == [str(runtime.pk)]
    tasks.access_apply(str(runtime.pk))
    assert Runtime.objects.get().access_closed_seen is True


def test_who_may(runtime: Runtime, tenant: Tenant, make_user: Any, operator: User) -> None:
    """Owners and operators; not members, not strangers; and what staff closed an owner cannot reopen."""
    owner, member, stranger = make_user("own"), make_user("mem"), make_user("far")
    membership_add(actor=TESTER, tenant=tenant, user=owner, role=Membership.Role.OWNER)
    membership_add(actor=TESTER, tenant=tenant, user=member, role=Membership.Role.MEMBER)
    for nobody in (member, stranger):
        with pytest.raises(PermissionRefused):
            access_close(actor=Actor.of(nobody), runtime_id=runtime.pk)
    access_close(actor=Actor.of(owner), runtime_id=runtime.pk)
    assert Runtime.objects.get().access_closed_by == "owner"
    access_reopen(actor=Actor.of(owner), runtime_id=runtime.pk)
    access_close(actor=Actor.of(operator), runtime_id=runtime.pk)
    with pytest.raises(PermissionRefused, match="Ask an operator"):
        access_reopen(actor=Actor.of(owner), runtime_id=runtime.pk)
    with pytest.raises(PermissionRefused, match="Ask an operator"):
        access_close(actor=Actor.of(owner), runtime_id=runtime.pk)
    access_reopen(actor=Actor.of(operator), runtime_id=runtime.pk)
    assert Runtime.objects.get().access_closed_by == ""
