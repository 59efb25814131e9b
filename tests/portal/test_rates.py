"""Requests a minute: counted for the tenant, over all processes, refused in words, on record but once."""

import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.test import Client
from rest_framework.throttling import SimpleRateThrottle

from audit.models import Entry
from portal import rates, shared_cache
from portal.api import urlpatterns
from portal.rates import API, ROUTED, RateExceeded, spend, used
from portal.shared_cache import JsonSerializer, SharedCache
from portal.throttles import SharedThrottle, TenantRateThrottle
from provisioning.models import Runtime
from tenants.models import Plan
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
HOST = "acme.portal.localhost:8000"


class Clock:
    """The time that `portal.rates` sees: in a minute of its own, so that nothing else counts in it."""

    def __init__(self) -> None:
        self.now = 60.0 * (10_000_000 + uuid.uuid4().int % 1_000_000)

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rates, "time", clock)
    return clock


@pytest.fixture
def few(world: World) -> World:
    """Both tenants have the smallest limits that a plan can have."""
    Plan.objects.update(api_per_minute=30, routed_per_minute=30)
    return world


def spent(tenant: uuid.UUID, times: int, limit: int = 30) -> int:
    """How many of so many are let through."""
    through = 0
    for _ in range(times):
        try:
            spend(API, tenant, limit)
            through += 1
        except RateExceeded:
            pass
    return through


def test_no_minute_sees_more_than_the_limit(clock: Clock) -> None:
    """Not across the change of the minute either; what was refused does not count."""
    tenant = uuid.uuid4()
    clock.now += 50
    assert spent(tenant, 100) == 30
    clock.now += 10  # the next minute has begun, and the last one counts in full
    assert spent(tenant, 100) == 0
    clock.now += 30
    assert spent(tenant, 100) == 15
    clock.now += 90
    assert spent(tenant, 100) == 30


@pytest.mark.parametrize("second", [0, 1, 29, 59])
@pytest.mark.parametrize("before", [0, 10, 30])
def test_who_waits_as_told_gets_through(clock: Clock, second: int, before: int) -> None:
    """And a second earlier does not."""
    tenant = uuid.uuid4()
    spent(tenant, before)
    clock.now += 60 + second
    while True:
        try:
            spend(API, tenant, 30)
        except RateExceeded as refused:
            wait = refused.wait
            break
    assert 1 <= wait <= 62, "at the worst all of them came at once, at a minute's beginning"
    clock.now += wait - 1
    if wait > 1:
        assert spent(tenant, 1) == 0
    clock.now += 1
    assert spent(tenant, 1) == 1


def test_tenants_and_kinds_are_counted_apart(clock: Clock) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    assert spent(one, 40) == 30
    assert spent(other, 40) == 30
    spend(ROUTED, one, 30)
    assert (used(API, one), used(ROUTED, one)) == (30, 1)


def elsewhere(code: str, given: str) -> None:
    """Run ``code`` in another process that counts in the same place."""
    head = (
        "import django, sys, uuid; django.setup()\n"
        "django.conf.settings.CACHES['shared']['KEY_PREFIX'] = sys.argv[2]\n"
    )
    prefix = settings.CACHES["shared"]["KEY_PREFIX"]
    subprocess.run([sys.executable, "-c", head + code, given, prefix], cwd=ROOT, check=True, timeout=60)


def test_processes_count_together() -> None:
    """What another process has spent is spent here."""
    tenant = uuid.uuid4()
    elsewhere(
        "from portal.rates import API, spend\nfor _ in range(20): spend(API, uuid.UUID(sys.argv[1]), 1000)",
        str(tenant),
    )
    assert used(API, tenant) > 10, "the minute may have ended since; what it saw counts less and less"


def test_many_at_once_do_not_slip_through(clock: Clock) -> None:
    """Sixteen threads, two hundred requests, thirty allowed."""
    tenant, through = uuid.uuid4(), []
    gate = threading.Barrier(16)

    def ask() -> None:
        gate.wait()
        through.append(spent(tenant, 13))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 25 <= sum(through) <= 30


def test_without_redis_each_process_counts_alone(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails, nothing waits, and the limit holds in this process."""
    alone = SharedCache("redis://127.0.0.1:1/0", {})
    monkeypatch.setattr(rates, "caches", {"shared": alone})
    began = time.monotonic()
    assert spent(uuid.uuid4(), 200) == 30
    assert time.monotonic() - began < 2
    assert Entry.objects.count() == 0


def test_redis_is_used_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked anew after some seconds, not with each request."""
    cache = SharedCache(settings.REDIS_URL, {"KEY_PREFIX": uuid.uuid4().hex})
    asked: list[str] = []

    def broken(key: str, *given: Any, **more: Any) -> Any:
        asked.append(key)
        raise ConnectionError("it is down")

    with monkeypatch.context() as patch:
        patch.setattr(cache._redis, "set", broken)
        cache.set("a", 1)
        cache.set("b", 1)
    assert asked == ["a"]
    assert cache.get("a") == 1
    monkeypatch.setattr(shared_cache, "RETRY_SECONDS", 0)
    cache._down_until = 0
    assert cache.get("a") is None, "Redis never heard of it"
    cache.set("c", [1, "two"], timeout=5)
    assert cache._redis.get("c") == [1, "two"]


def test_threads_that_end_leave_no_connection() -> None:
    """A web process has many threads in its life, and no more sockets at its end than at once."""
    held: list[int] = []

    def ask() -> None:
        caches["shared"].get("a")
        held.append(len(list(Path("/proc/self/fd").iterdir())))

    for _ in range(20):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)
    assert held[-1] == held[0]


def test_what_somebody_put_into_redis_is_not_run() -> None:
    """No pickle: it would run what it holds."""
    import pickle

    assert JsonSerializer().loads(pickle.dumps({"a": 1})) is None
    shared: Any = caches["shared"]
    assert isinstance(shared._redis._cache._serializer, JsonSerializer)


def test_the_api_refuses_with_words_and_a_time(few: World, clock: Clock) -> None:
    """429, Retry-After, the plan's figure; the members of the tenant share it, others do not notice."""
    owner, member = few.client("owner"), few.client("member")
    url = "/api/v1/tenants/acme/secrets/"
    assert {owner.get(url).status_code for _ in range(20)} == {200}
    assert {member.get(url).status_code for _ in range(10)} == {200}
    for client in (owner, member):
        refused = client.get(url)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 62
        words = refused.json()["detail"]
        assert "Your plan allows 30 API requests a minute" in words
        assert words.endswith(f"Try again in {refused.headers['Retry-After']} s."), "said once"
    runtime = few.mine.runtime.pk
    assert owner.get(f"/api/v1/runtimes/{runtime}/").status_code == 429, "another route, the same tenant"
    assert owner.get(f"/api/v1/operations/{few.mine.operation.pk}/").status_code == 429
    assert owner.get("/t/acme/").status_code == 200, "pages go on"
    clock.now += 120
    assert owner.get(url).status_code == 200


def limit(monkeypatch: pytest.MonkeyPatch, scope: str, rate: str) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, scope, rate)


def test_who_is_refused_as_a_person_costs_the_tenant_nothing(
    few: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member in a loop cannot use up the minute of all."""
    limit(monkeypatch, "user", "5/min")
    owner, member = few.client("owner"), few.client("member")
    for url in ("secrets/", "connectors/", "quotas/", "egress/"):
        codes = [owner.get(f"/api/v1/tenants/acme/{url}").status_code for _ in range(12)]
        assert codes.count(429) >= 7, url
    assert used(API, few.mine.tenant.pk) == 5
    assert owner.get("/api/v1/tenants/acme/secrets/").headers["Retry-After"]
    assert member.get("/api/v1/tenants/acme/secrets/").status_code == 200


@pytest.mark.parametrize("scope", ["secrets", "connectors"])
def test_a_write_too_many_costs_the_tenant_nothing(
    few: World, clock: Clock, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    """Reading goes on, of that person's, too."""
    limit(monkeypatch, scope, "2/min")
    owner = few.client("owner")
    url = f"/api/v1/tenants/acme/{scope}/"
    codes = [owner.delete(f"{url}github/").status_code for _ in range(40)]
    assert codes.count(429) == 38
    assert used(API, few.mine.tenant.pk) == 2
    assert owner.get(url).status_code == 200


def test_the_tenants_limit_is_asked_last_everywhere() -> None:
    """What is asked after it could refuse what the tenant has paid for."""
    asked = [pattern.callback.cls for pattern in urlpatterns if hasattr(pattern.callback, "cls")]
    assert any(TenantRateThrottle in view.throttle_classes for view in asked)
    for view in asked:
        *before, last = view.throttle_classes
        assert all(issubclass(each, SharedThrottle) for each in before), view
        assert issubclass(last, SharedThrottle | TenantRateThrottle), view


def test_a_person_is_counted_over_all_processes(world: World) -> None:
    """What another process has answered counts here."""
    elsewhere(
        "from types import SimpleNamespace as Some; from portal.throttles import PersonThrottle\n"
        "asking = Some(user=Some(pk=int(sys.argv[1]), is_authenticated=True))\n"
        "for _ in range(120): PersonThrottle().allow_request(asking, None)",
        str(world.people["owner"].pk),
    )
    assert world.client("owner").get("/api/v1/tenants/acme/secrets/").status_code == 429
    assert world.client("member").get("/api/v1/tenants/acme/secrets/").status_code == 200


@pytest.mark.parametrize("role", ["stranger", "half staff", "operator", "superuser", "anonymous"])
def test_nobody_spends_a_tenants_requests_but_its_members(few: World, clock: Clock, role: str) -> None:
    client = few.client(role)
    for _ in range(40):
        assert client.get("/api/v1/tenants/acme/secrets/").status_code != 429
    assert used(API, few.mine.tenant.pk) == 0


def entered(client: Client) -> Client:
    Runtime.objects.update(agent_address="10.83.0.2:8443")
    split = urlsplit(str(client.post("/t/acme/open/").headers["Location"]))
    there = Client()
    there.get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
    return there


def route(there: Client) -> Any:
    headers = {"Host": HOST, "Portal-Method": "GET", "Portal-Path": "/v1/workspace"}
    return there.get("/.portal/authorize", headers=headers)


def test_routed_requests_are_refused_without_a_token(few: World, clock: Clock) -> None:
    """403 for nginx with the reason and the time; no token and no entry for what was not routed."""
    there = entered(few.client("owner"))
    assert {route(there).status_code for _ in range(30)} == {204}
    refused = route(there)
    assert (refused.status_code, refused.headers["Portal-Reason"]) == (403, "too_many_requests")
    assert 1 <= int(refused.headers["Portal-Retry-After"]) <= 62
    assert "Portal-Token" not in refused.headers
    assert Entry.objects.filter(action="request.routed").count() == 30


def test_a_stranger_to_the_route_spends_nothing(few: World, clock: Clock) -> None:
    """Without the cookie, or after leaving, nothing counts against the tenant."""
    there = entered(few.client("owner"))
    few.mine.membership.delete()
    for client in (Client(), there):
        for _ in range(3):
            assert route(client).status_code in {401, 403}
    assert used(ROUTED, few.mine.tenant.pk) == 0


def test_refusals_are_on_record_once_a_minute(few: World, clock: Clock) -> None:
    """A flood of requests is no flood of entries; the entry says which limit of whom."""
    owner, there = few.client("owner"), entered(few.client("owner"))
    for _ in range(45):
        owner.get("/api/v1/tenants/acme/secrets/")
        route(there)
    entries = Entry.objects.filter(action="rate.refused").order_by("pk")
    assert sorted(e.event.split('"rate":"')[1].split('"')[0] for e in entries) == [API, ROUTED]
    assert {entry.tenant_id for entry in entries} == {few.mine.tenant.pk}


def test_a_plan_leaves_room_to_ask(plan: Plan) -> None:
    """The database refuses limits that would lock people out."""
    from django.db import IntegrityError, transaction

    for field in ("api_per_minute", "routed_per_minute"):
        for value in (0, 29, 1_000_001):
            with pytest.raises(IntegrityError), transaction.atomic():
                Plan.objects.filter(pk=plan.pk).update(**{field: value})
    assert connection.vendor
