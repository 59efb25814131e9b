"""What a tenant may reach: who allows and enables, what the pilot bars on every level, and what the proxy is told."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.context import SYSTEM, Actor, command
from audit.models import Entry
from tenants.connectors import CONNECTORS, PILOT
from tenants.models import ConnectorSecret, Tenant, TenantConnector
from tenants.selectors import allowed_hosts, connectors_of
from tenants.services import (
    ConnectorRefused,
    connector_allow,
    connector_disable,
    connector_enable,
    connector_forbid,
    tenant_offboard,
)
from tenants.signals import connectors_changed
from tests.tenants.conftest import House

pytestmark = pytest.mark.django_db
TESTER = command("test")
OTHERS = sorted(set(CONNECTORS) - PILOT)
Service = Callable[..., TenantConnector]
STAFFS = (connector_allow, connector_forbid)
OWNERS = (connector_enable, connector_disable)
GITHUB = sorted((reach.host, reach.port) for reach in CONNECTORS["github"].reaches)


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """The tenants that the rooms above were told of."""
    heard: list[Any] = []

    def hear(tenant_id: Any, **more: Any) -> None:
        assert transaction.get_connection().in_atomic_block
        heard.append(tenant_id)

    connectors_changed.connect(hear)
    yield heard
    connectors_changed.disconnect(hear)


def ask(house: House, service: Service, who: str = "owner", connector: str = "github") -> TenantConnector:
    return service(actor=house.actor(who), tenant=house.tenant, connector=connector)


def allow(house: House, connector: str = "github") -> TenantConnector:
    return connector_allow(actor=TESTER, tenant=house.tenant, connector=connector)


def opened(house: House, connector: str = "github") -> TenantConnector:
    allow(house, connector)
    return ask(house, connector_enable, connector=connector)


def refused(house: House, service: Service, who: str = "owner", connector: str = "github") -> str:
    before = list(TenantConnector.objects.values())
    with pytest.raises(ConnectorRefused) as refusal:
        ask(house, service, who, connector)
    assert list(TenantConnector.objects.values()) == before
    return refusal.value.code


def actions() -> list[tuple[str, str, str]]:
    rows = Entry.objects.filter(target_type="connector").order_by("pk")
    return [(row.action, row.actor_id, json.loads(row.event)["data"]["connector"]) for row in rows]


def test_the_table_is_fit_for_a_proxy() -> None:
    """Exact names in small letters, no address, no wildcard; TLS only; each with a reason, and none twice."""
    label = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
    for slug, connector in CONNECTORS.items():
        assert re.fullmatch(r"[a-z]{1,16}", slug)
        assert slug == connector.slug
        assert connector.reaches
        assert len({(reach.host, reach.port) for reach in connector.reaches}) == len(connector.reaches)
        for reach in connector.reaches:
            assert re.fullmatch(rf"(?:{label}\.)+[a-z]{{2,}}", reach.host), reach
            assert len(reach.host) <= 253
            assert reach.port == 443
            assert 5 < len(reach.why) < 80


def test_github_reaches_what_its_users_need() -> None:
    """Its API, git over HTTPS, archives and raw files; no place where others keep things under the same name."""
    hosts = {host for host, _ in GITHUB}
    assert {"github.com", "api.github.com", "codeload.github.com", "raw.githubusercontent.com"} <= hosts
    assert all(
        host == "github.com" or host.endswith((".github.com", ".githubusercontent.com")) for host in hosts
    )


def test_secrets_are_for_known_connectors() -> None:
    """Whatever a credential may be kept for is in the table."""
    assert set(ConnectorSecret.Connector.values) <= set(CONNECTORS)


def test_a_new_tenant_reaches_nothing(house: House) -> None:
    """Nothing is allowed until somebody allows it; each connector is listed nevertheless."""
    assert allowed_hosts(house.tenant.pk) == []
    rows = connectors_of(house.tenant)
    assert [row.connector for row in rows] == list(CONNECTORS)
    assert not any(row.allowed or row.enabled for row in rows)
    assert refused(house, connector_enable) == "not_permitted"
    assert not TenantConnector.objects.exists()


def test_allowed_by_staff_enabled_by_an_owner(house: House, operator: User, told: list[Any]) -> None:
    """Both are needed, each is recorded with who did it, and each is told of."""
    house.people["operator"] = operator
    row = ask(house, connector_allow, "operator")
    assert (row.allowed, row.allowed_by, row.enabled) == (True, operator, False)
    assert allowed_hosts(house.tenant.pk) == []
    row = ask(house, connector_enable)
    assert (row.enabled, row.enabled_by) == (True, house.people["owner"])
    assert allowed_hosts(house.tenant.pk) == GITHUB
    row = ask(house, connector_disable)
    assert (row.allowed, row.enabled) == (True, False)
    assert allowed_hosts(house.tenant.pk) == []
    staff, owner = str(operator.pk), str(house.people["owner"].pk)
    assert actions() == [
        ("connector.allowed", staff, "github"),
        ("connector.enabled", owner, "github"),
        ("connector.disabled", owner, "github"),
    ]
    assert told == [house.tenant.pk] * 3


def test_forbidding_disables(house: House, operator: User, told: list[Any]) -> None:
    """In one transaction; allowing it again does not enable it again."""
    house.people["operator"] = operator
    opened(house)
    told.clear()
    row = ask(house, connector_forbid, "operator")
    assert (row.allowed, row.enabled, row.enabled_by) == (False, False, operator)
    assert allowed_hosts(house.tenant.pk) == []
    assert [action for action, *_ in actions()][2:] == ["connector.disabled", "connector.forbidden"]
    assert set(told) == {house.tenant.pk}
    assert not ask(house, connector_allow, "operator").enabled
    assert allowed_hosts(house.tenant.pk) == []


def test_asked_again_nothing_changes(house: House, operator: User, told: list[Any]) -> None:
    """No entry, no message, and the times stay."""
    house.people["operator"] = operator
    assert refused_nothing(house, connector_forbid, connector_disable)
    opened(house)
    before, entries = list(TenantConnector.objects.values()), len(actions())
    told.clear()
    ask(house, connector_allow, "operator")
    ask(house, connector_enable)
    assert (list(TenantConnector.objects.values()), len(actions()), told) == (before, entries, [])


def refused_nothing(house: House, *services: Service) -> bool:
    """Taking back what never was is no error, and leaves no row."""
    for service in services:
        ask(house, service, "operator" if service in STAFFS else "owner")
    return not TenantConnector.objects.exists() and actions() == []


@pytest.mark.parametrize("service", STAFFS)
@pytest.mark.parametrize("who", ["owner", "member", "stranger"])
def test_only_operators_allow_and_forbid(house: House, service: Service, who: str) -> None:
    allow(house)
    assert refused(house, service, who) == "not_allowed"


@pytest.mark.parametrize("service", OWNERS)
@pytest.mark.parametrize("who", ["member", "stranger", "operator"])
def test_only_owners_enable_and_disable(house: House, operator: User, service: Service, who: str) -> None:
    """Not even staff: they can forbid."""
    house.people["operator"] = operator
    opened(house)
    assert refused(house, service, who) == "not_allowed"


@pytest.mark.parametrize("actor", [SYSTEM, TESTER, Actor(kind="anonymous", id="")])
@pytest.mark.parametrize("service", OWNERS)
def test_no_program_enables(house: House, service: Service, actor: Actor) -> None:
    """An owner is a person."""
    opened(house)
    with pytest.raises(ConnectorRefused, match="Only the tenant's owners"):
        service(actor=actor, tenant=house.tenant, connector="github")


@pytest.mark.parametrize("service", STAFFS)
def test_nobody_is_no_operator(house: House, service: Service) -> None:
    with pytest.raises(ConnectorRefused, match="Only operators"):
        service(actor=Actor(kind="anonymous", id=""), tenant=house.tenant, connector="github")


def test_an_operator_of_another_tenant(
    house: House, make_user: Callable[..., User], make_tenant: Callable[..., Tenant]
) -> None:
    """Staff without a right on this tenant are nobody here."""
    house.people["half"] = make_user("half", is_staff=True)
    assert refused(house, connector_allow, "half") == "not_allowed"


@pytest.mark.parametrize("service", [*STAFFS, *OWNERS])
@pytest.mark.parametrize("connector", ["", "GitHub", "github ", "githuber", "*", "github\n", "x" * 300])
def test_a_connector_that_is_not_in_the_table(
    house: House, operator: User, service: Service, connector: str
) -> None:
    house.people["operator"] = operator
    who = "operator" if service in STAFFS else "owner"
    assert refused(house, service, who, connector) == "unknown_connector"


@pytest.mark.parametrize("connector", OTHERS)
@pytest.mark.parametrize("service", [connector_allow, connector_enable])
def test_the_pilot_bars_the_others(house: House, operator: User, service: Service, connector: str) -> None:
    """Whoever asks: the service refuses, and says what is open."""
    house.people["operator"] = operator
    who = "operator" if service in STAFFS else "owner"
    assert refused(house, service, who, connector) == "pilot"
    with pytest.raises(ConnectorRefused, match="The pilot opens GitHub only"):
        ask(house, service, who, connector)


@pytest.mark.parametrize("connector", OTHERS)
@pytest.mark.parametrize(
    "write",
    [
        lambda **given: TenantConnector.objects.create(**given),
        lambda **given: TenantConnector(**given).save(force_insert=True),
        lambda **given: TenantConnector.objects.bulk_create([TenantConnector(**given)]),
        lambda **given: TenantConnector.objects.update_or_create(
            tenant=given.pop("tenant"), connector=given.pop("connector"), defaults=given
        ),
        lambda tenant, connector, **given: [
            TenantConnector.objects.create(tenant=tenant, connector=connector),
            TenantConnector.objects.update(**given),
        ],
        lambda tenant, connector, **given: [
            TenantConnector.objects.create(tenant=tenant, connector="github", **given),
            TenantConnector.objects.update(connector=connector),
        ],
        lambda tenant, connector, **given: TenantConnector.objects.bulk_update(
            [
                TenantConnector(
                    pk=TenantConnector.objects.create(tenant=tenant, connector=connector).pk, **given
                )
            ],
            ["allowed", "enabled"],
        ),
    ],
)
def test_the_database_bars_them_too(house: House, write: Callable[..., Any], connector: str) -> None:
    """Around the services, by each way of writing: one row, in bulk, and by changing a row's name."""
    with pytest.raises(IntegrityError), transaction.atomic():
        write(tenant=house.tenant, connector=connector, allowed=True, enabled=True)
    assert not TenantConnector.objects.filter(enabled=True).exists()


def test_nothing_is_enabled_that_is_not_allowed(house: House) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        TenantConnector.objects.create(tenant=house.tenant, connector="github", enabled=True)
    opened(house)
    with pytest.raises(IntegrityError), transaction.atomic():
        TenantConnector.objects.update(allowed=False)


def test_one_row_for_each(house: House) -> None:
    allow(house)
    with pytest.raises(IntegrityError), transaction.atomic():
        TenantConnector.objects.create(tenant=house.tenant, connector="github")


@pytest.mark.parametrize("connector", [*OTHERS, "unheard-of"])
def test_a_forged_row_opens_nothing(house: House, connector: str) -> None:
    """Whoever can write the table with all that its constraints ask for: the worker's own setting still bars it."""
    opened(house)
    TenantConnector.objects.create(
        tenant=house.tenant, connector=connector, allowed=True, enabled=True, beyond_pilot=True
    )
    assert allowed_hosts(house.tenant.pk) == GITHUB


@pytest.mark.parametrize("connector", OTHERS)
def test_when_the_guardrail_is_down(house: House, settings: Any, connector: str) -> None:
    """Staff allow another one and an owner enables it; with the guardrail up again it reaches nothing at once."""
    settings.PORTAL_PILOT = False
    row = opened(house, connector)
    hosts = sorted((reach.host, reach.port) for reach in CONNECTORS[connector].reaches)
    assert (row.beyond_pilot, allowed_hosts(house.tenant.pk)) == (True, hosts)
    settings.PORTAL_PILOT = True
    assert allowed_hosts(house.tenant.pk) == []
    ask(house, connector_disable, connector=connector)
    assert refused(house, connector_enable, connector=connector) == "pilot"
    connector_forbid(actor=TESTER, tenant=house.tenant, connector=connector)
    row.refresh_from_db()
    assert (row.allowed, row.enabled, row.beyond_pilot) == (False, False, False)


def test_hosts_of_several_connectors(house: House, settings: Any) -> None:
    """All of them, sorted, each once."""
    settings.PORTAL_PILOT = False
    for connector in CONNECTORS:
        opened(house, connector)
    hosts = allowed_hosts(house.tenant.pk)
    assert hosts == sorted(set(hosts))
    assert len(hosts) == sum(len(connector.reaches) for connector in CONNECTORS.values())


def test_tenants_do_not_share(house: House, make_tenant: Callable[..., Tenant]) -> None:
    """What one enables opens nothing for another."""
    other = make_tenant("other")
    opened(house)
    assert allowed_hosts(other.pk) == []
    assert not any(row.allowed for row in connectors_of(other))


def test_an_offboarded_tenant_reaches_nothing(house: House, operator: User) -> None:
    """And nobody opens anything for it any more."""
    opened(house)
    tenant_offboard(actor=TESTER, tenant=house.tenant, reason="The contract has ended.")
    assert allowed_hosts(house.tenant.pk) == []
    house.people["operator"] = operator
    assert refused(house, connector_allow, "operator") == "offboarded"
    assert refused(house, connector_enable) == "not_allowed"


@pytest.mark.parametrize("service", [*STAFFS, *OWNERS])
def test_without_its_entry_nothing_changes(
    house: House, operator: User, monkeypatch: pytest.MonkeyPatch, service: Service, told: list[Any]
) -> None:
    """Rule 1, for each of the four."""
    house.people["operator"] = operator
    if service is not connector_allow:
        allow(house)
    if service in {connector_disable, connector_forbid}:
        ask(house, connector_enable)
    told.clear()
    before = list(TenantConnector.objects.values())

    def full(**given: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tenants.services.connectors.record", full)
    with pytest.raises(OSError, match="disk full"), transaction.atomic():
        ask(house, service, "operator" if service in STAFFS else "owner")
    assert (list(TenantConnector.objects.values()), told) == (before, [])
