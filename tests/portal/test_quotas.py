"""What people see of quotas: the tenant's page and API, the staff's page of a plan and of a host."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from portal.rates import ROUTED, spend
from provisioning import usage
from provisioning.models import Host, Operation, Runtime
from provisioning.quotas import size_of
from tenants.models import Plan
from tenants.services import plan_save
from tests.conftest import TESTER
from tests.portal.conftest import NOWHERE, World

pytestmark = pytest.mark.django_db
PAGE = "/t/acme/quotas/"
MIB = 1024**2


def plan_page(world: World) -> str:
    return f"/admin/provisioning/runtime/{world.mine.runtime.pk}/plan/"


@pytest.fixture
def large(plan: Plan) -> Plan:
    given = {**size_of(plan), "memory_mib": 1024, "cost_floor_cents": 9900}
    return plan_save(actor=TESTER, plan=Plan(slug="large", name="Large", **given))


@pytest.mark.parametrize("role", ["member", "owner", "operator"])
def test_people_see_limits_and_use(world: World, role: str) -> None:
    """Of the machine what it has said, of requests what is counted."""
    Runtime.objects.update(
        usage={"memory_mib": 384, "disk_mib": 512, "jobs_running": 1}, usage_at=timezone.now()
    )
    for _ in range(12):
        spend(ROUTED, world.mine.tenant.pk, 1200)
    page = world.client(role).get(PAGE).content.decode()
    for words in ("512 <span", "384 <meter", "75 %", "0.5 <meter", "50 %", "1200", "12 <meter"):
        assert words in page, words
    assert "does not have its plan" not in page


def test_a_bandwidth_that_nobody_enforces_is_called_so(world: World, plan: Plan) -> None:
    """Not on this host; on one that can, nothing is said. And a limit that is none needs no word."""
    client = world.client("owner")
    assert "Not enforced" not in client.get(PAGE).content.decode()
    Runtime.objects.update(bandwidth_mbit=10)
    Plan.objects.update(bandwidth_mbit=10)
    assert "Not enforced: the machine is simulated." in client.get(PAGE).content.decode()
    Host.objects.update(engine="kvm")
    assert "Not enforced: the machine&#x27;s host cannot limit it." in client.get(PAGE).content.decode()
    told = client.get("/api/v1/tenants/acme/quotas/").json()["quotas"]
    assert [row["enforced"] for row in told if row["name"] == "bandwidth_mbit"] == [False]
    Host.objects.update(capabilities=["bandwidth"])
    assert "Not enforced" not in client.get(PAGE).content.decode()


@pytest.mark.parametrize(
    ("phase", "change", "words"),
    [
        ("ready", {"memory_mib": 1024}, "that restarts the machine"),
        ("ready", {"cpu_percent": 50}, "while the machine runs"),
        ("stopped", {"memory_mib": 1024}, "at its next start"),
        ("failed", {"memory_mib": 1024}, "once the machine is ready or stopped"),
    ],
)
def test_people_see_what_is_still_to_be_applied(
    world: World, phase: str, change: dict[str, int], words: str
) -> None:
    """What differs, and what it takes."""
    Plan.objects.update(**change)
    Runtime.objects.update(phase=phase)
    page = world.client("owner").get(PAGE).content.decode()
    assert words in page
    told = world.client("owner").get("/api/v1/tenants/acme/quotas/").json()["pending"]
    (name, value) = next(iter(change.items()))
    assert [(row["name"], row["gets"]) for row in told["changes"]] == [(name, value)]
    assert told["restart"] is (words == "that restarts the machine")


def test_without_a_machine_the_plan_is_shown(world: World) -> None:
    Runtime.objects.filter(tenant=world.mine.tenant).update(
        phase="deleted", host=None, reserved=False, volume_key=None
    )
    assert "There is no machine yet" in world.client("owner").get(PAGE).content.decode()


def test_the_api_tells_all_of_it(world: World) -> None:
    """Every quota of the plan by its name."""
    told = world.client("member").get("/api/v1/tenants/acme/quotas/").json()
    names = {row["name"] for row in told["quotas"]}
    assert names == {*size_of(world.mine.tenant.plan), "api_per_minute", "routed_per_minute"}
    assert (told["plan"], told["pending"]) == ("small", {"changes": [], "restart": False})


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({}, {}),
        ({"memory": {"total_bytes": 512 * MIB, "available_bytes": 128 * MIB}}, {"memory_mib": 384}),
        ({"data_volume": {"size_bytes": 900 * MIB, "free_bytes": 800 * MIB}}, {"disk_mib": 100}),
        ({"jobs": {"running": 2, "waiting": 0}}, {"jobs_running": 2, "jobs_waiting": 0}),
        ({"memory": "much", "data_volume": None, "jobs": [1]}, {}),
        ({"memory": {"total_bytes": 1, "available_bytes": 9**20}, "jobs": {"running": -1}}, {}),
        ({"jobs": {"running": "<script>", "waiting": True}}, {}),
        ({"memory": {"total_bytes": 10, "available_bytes": 20 * MIB}}, {}),
    ],
)
def test_a_guests_word_is_taken_only_where_it_makes_sense(status: Any, found: dict[str, int]) -> None:
    """Whole numbers that can be; a guest gone bad gets no text onto the page."""
    assert usage.read(status) == found


def test_operators_choose_a_plan_and_see_what_it_takes(world: World, large: Plan) -> None:
    """The page says it; without the word for a restart nothing happens; with it the operation begins."""
    client = world.client("half staff")
    page = client.get(plan_page(world)).content.decode()
    assert "Memory: 512 → 1024" in page
    assert "A restart." in page
    form = {"plan": large.pk, "price_cents": 9900}
    refused = client.post(plan_page(world), form)
    assert "needs a restart" in refused.content.decode()
    assert 'value="9900"' in refused.content.decode(), "what was typed is not lost"
    cheap = client.post(plan_page(world), {**form, "price_cents": 5000, "restart": "on"})
    assert "ask for 9900 cents a month or more" in cheap.content.decode()
    assert not Operation.objects.filter(kind__startswith="resize").exists()
    done = client.post(plan_page(world), {**form, "restart": "on"})
    operation = Operation.objects.get(kind="resize_restart")
    assert done.headers["Location"] == f"/admin/provisioning/operation/{operation.pk}/change/"


def test_the_page_says_what_cannot_be(world: World, large: Plan) -> None:
    """No room, and a disk that would shrink."""
    Host.objects.update(memory_mib=1100)
    Runtime.objects.update(disk_gib=5)
    page = world.client("operator").get(plan_page(world)).content.decode()
    assert "Not possible: The disk has 5 GiB and would get 1." in page
    Runtime.objects.update(disk_gib=1)
    page = world.client("operator").get(plan_page(world)).content.decode()
    assert "Not possible: shelf needs 512 MiB of memory, 76 free." in page


def test_who_looks_only_changes_nothing(world: World, large: Plan, make_user: Callable[..., Any]) -> None:
    """A stranger to the tenant gets 404; staff who are mere members 403."""
    form = {"plan": large.pk, "price_cents": 9900, "restart": "on"}
    elsewhere = f"/admin/provisioning/runtime/{world.other.runtime.pk}/plan/"
    assert world.client("half staff").post(elsewhere, form).status_code == 404
    assert world.client("operator").get(f"/admin/provisioning/runtime/{NOWHERE}/plan/").status_code == 404
    viewer = world.people["owner"]
    viewer.is_staff = True
    viewer.save()
    viewer.user_permissions.set(world.people["half staff"].user_permissions.all())
    assert world.client("owner").post(plan_page(world), form).status_code == 403
    assert Runtime.objects.filter(tenant__plan=large).count() == 0


def test_a_hosts_page_says_what_is_promised_and_to_whom(world: World) -> None:
    """All of it in figures; names only of tenants that the reader may know of."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(spare_memory_mib=100, phase="stopped")
    host = Host.objects.get()
    for role, named in (("operator", {"Acme", "Zebra"}), ("half staff", {"Acme"})):
        page = world.client(role).get(f"/admin/provisioning/host/{host.pk}/change/").content.decode()
        assert "<td>1124</td><td>8192</td>" in page
        assert "512 + 100" in page
        assert {name for name in ("Acme", "Zebra") if f">{name}</a>" in page} == named
        assert ("And 1 runtime of tenants" in page) is (role == "half staff")
    listed = world.client("operator").get("/admin/provisioning/host/").content.decode()
    assert "1124 of 8192 MiB" in listed
