"""Who may know of which ticket, and what an inbox holds."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.utils import timezone
from guardian.shortcuts import assign_perm

from breakglass.selectors import inbox_for, is_approver, may_approve, tickets_for
from breakglass.services import review_write, ticket_end
from breakglass.services.passkeys import passkey_retire
from portal.breakglass.tenant_tickets import tickets_of
from tenants.models import Membership
from tests.breakglass.lowered import set_times
from tests.breakglass.staff import Staff
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db


def test_who_may_know_of_it(
    world: World, operator: User, make_user: Callable[..., User], make_tenant: Any
) -> None:
    ticket = world.open()
    member = make_user("member")
    Membership.objects.create(tenant=world.tenant, user=member)
    own = make_user("own", is_staff=True)
    assign_perm("tenants.operate_tenant", own, world.tenant)
    for person in (operator, own, world.anna.user, world.asker.user, member, world.owner):
        assert list(tickets_for(person)) == [ticket], person
    elsewhere = make_user("elsewhere", is_staff=True)
    assign_perm("tenants.operate_tenant", elsewhere, make_tenant("globex"))
    no_staff = make_user("no staff")
    assign_perm("tenants.operate_tenant", no_staff, world.tenant)
    closed = make_user("closed", is_staff=True, is_superuser=True, is_active=False)
    colleague = make_user("colleague", is_staff=True)
    for nobody in (elsewhere, no_staff, closed, colleague, AnonymousUser()):
        assert not tickets_for(nobody).exists(), nobody


def test_members_of_another_tenant_know_nothing(
    world: World, make_user: Callable[..., User], make_tenant: Any
) -> None:
    world.open()
    other = make_user("other")
    globex = make_tenant("globex")
    Membership.objects.create(tenant=globex, user=other)
    assert not tickets_for(other).exists()
    assert not tickets_of(other, world.tenant).exists()
    assert not tickets_of(world.owner, globex).exists()
    assert tickets_of(world.owner, world.tenant).exists()


def test_who_left_the_set_is_no_approver(world: World) -> None:
    world.open()
    assert is_approver(world.carl.user)
    world.next_set(world.anna, world.bert)
    assert not is_approver(world.carl.user)
    assert not tickets_for(world.carl.user).exists()
    passkey_retire(actor=world.bert.actor, passkey=world.bert.passkey)
    assert not is_approver(world.bert.user)


def test_an_inbox(world: World) -> None:
    first, second = world.open_for_two(), world.open(kind="emergency")
    inbox = inbox_for(world.anna.user)
    assert list(inbox.waiting_for_me) == [second, first], "an emergency stands above"
    assert [list(each) for each in (inbox.mine, inbox.active, inbox.reviews)] == [[], [], []]
    world.approve(first, world.anna)
    assert list(inbox_for(world.anna.user).waiting_for_me) == [second]
    assert list(inbox_for(world.bert.user).waiting_for_me) == [second, first]
    assert set(inbox_for(world.asker.user).mine) == {first, second}
    assert not inbox_for(world.asker.user).waiting_for_me.exists()
    running = world.active()
    assert list(inbox_for(world.carl.user).active) == [running]
    ended = ticket_end(actor=world.asker.actor, ticket=running)
    (review,) = inbox_for(world.asker.user).reviews
    assert review.ticket == ended
    review_write(actor=world.asker.actor, ticket=ended, text="I have looked at the logs only.")
    assert not inbox_for(world.asker.user).reviews.exists()


def test_what_nobody_can_decide_any_more_does_not_wait(world: World) -> None:
    """Its time is over, though no sweeper has come by; or it asks another set."""
    late, old = world.open(), world.open()
    set_times(late, wait_until=timezone.now(), asked_at=timezone.now() - timedelta(hours=4))
    assert list(inbox_for(world.anna.user).waiting_for_me) == [old]
    world.next_set()
    assert not inbox_for(world.anna.user).waiting_for_me.exists()


def test_the_requesters_own_does_not_wait_for_them(world: World) -> None:
    world.next_set(*world.approvers, world.asker)
    world.open()
    assert not inbox_for(world.asker.user).waiting_for_me.exists()


def test_who_can_approve_is_shown(world: World, make_colleague: Staff) -> None:
    """By name, with who has; not the requester, nor whoever cannot sign."""
    world.next_set(*world.approvers, world.asker, make_colleague("gone"))
    User.objects.filter(username="gone").update(is_active=False)
    passkey_retire(actor=world.carl.actor, passkey=world.carl.passkey)
    ticket = world.open_for_two()
    world.approve(ticket, world.bert)
    shown = {one.person: one.approved for one in may_approve(ticket)}
    assert shown == {f"user:{world.anna.user.pk}": False, f"user:{world.bert.user.pk}": True}
    world.next_set(world.anna, world.bert)
    assert may_approve(ticket) == []
