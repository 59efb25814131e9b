"""Several at once, in threads with connections of their own. `make test` runs this on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import Actor
from audit.models import Entry
from tenants.models import TenantConnector
from tenants.selectors import allowed_hosts
from tenants.services import (
    ConnectorRefused,
    connector_allow,
    connector_disable,
    connector_enable,
    connector_forbid,
)
from tests import races
from tests.tenants.conftest import TESTER, House

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each came to: its answer, or its refusal's code."""
    return races.at_once(deeds, ConnectorRefused, lambda refusal: refusal.code)


def deed(house: House, service: Callable[..., Any], actor: Actor) -> Callable[[], Any]:
    return lambda: service(actor=actor, tenant=house.tenant, connector="github")


def test_it_is_allowed_once(house: House) -> None:
    """One row and one entry, however many ask."""
    at_once(*[deed(house, connector_allow, TESTER)] * 6)
    assert TenantConnector.objects.count() == 1
    assert Entry.objects.filter(action="connector.allowed").count() == 1


def test_forbidden_while_it_is_enabled(house: House, operator: User) -> None:
    """Whoever was first: it is off at the end, and nobody is told of a broken constraint."""
    staff, owner = Actor.of(operator), house.actor()
    for _ in range(8):
        deed(house, connector_allow, staff)()
        at_once(
            deed(house, connector_enable, owner),
            deed(house, connector_forbid, staff),
            deed(house, connector_enable, owner),
        )
        row = TenantConnector.objects.get()
        assert (row.allowed, row.enabled) == (False, False)
        assert allowed_hosts(house.tenant.pk) == []


def test_the_record_tells_where_it_ended(house: House) -> None:
    """The newest entry is the state, and on and off take turns in it."""
    deed(house, connector_allow, TESTER)()
    owner = house.actor()
    at_once(*[deed(house, service, owner) for service in (connector_enable, connector_disable) * 4])
    said = list(Entry.objects.filter(target_type="connector").order_by("pk").values_list("action", flat=True))
    turns = said[1:]
    assert turns == ["connector.enabled", "connector.disabled"] * (len(turns) // 2) + (
        ["connector.enabled"] if len(turns) % 2 else []
    )
    assert TenantConnector.objects.get().enabled == (len(turns) % 2 == 1)
