"""The proxy follows the rows: one number for one content, through lost messages, doubled workers and old copies."""

import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.utils import timezone

from audit.context import Actor, command
from audit.models import Entry
from provisioning.driver import SimulatedDriver, connect
from provisioning.driver.local_keeper import LocalKeeper
from provisioning.egress import delivery, rules
from provisioning.egress.delivery import NotInForce, RulesRefused
from provisioning.egress.reports import Report
from provisioning.models import Host, Runtime
from provisioning.selectors import egress_in_force
from provisioning.specs import host_spec
from provisioning.tasks import egress_apply, operations_sweep
from tenants.models import Tenant
from tenants.selectors import allowed_hosts
from tenants.services import connector_allow, connector_disable, connector_enable
from tests.races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


@pytest.fixture
def folder(simulated_host: Host) -> Path:
    path = Path(simulated_host.egress_path)
    path.mkdir()
    return path


@pytest.fixture
def served(simulated_host: Host, tenant: Tenant, image: Any) -> Runtime:
    """A runtime that the proxy is to serve, with no machine behind it."""
    return make_served(simulated_host, tenant, image, 0)


def make_served(host: Host, tenant: Tenant, image: Any, index: int, **more: Any) -> Runtime:
    given = {"vcpus": 1, "cpu_percent": 100, "memory_mib": 512, "disk_gib": 1, "phase": "ready", **more}
    return Runtime.objects.create(
        tenant=tenant,
        host=host,
        image=image,
        egress=True,
        network_index=index,
        mac=f"52:54:00:00:00:{index:02x}",
        **given,
    )


def enable_github(tenant: Tenant, owner: User) -> None:
    connector_allow(actor=TESTER, tenant=tenant, connector="github")
    connector_enable(actor=Actor.of(owner), tenant=tenant, connector="github")


def newest(folder: Path) -> rules.Rules:
    return rules.parse(max(folder.glob("rules-*.json")).read_bytes())


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return found


def change_state(folder: Path, **changed: Any) -> None:
    (folder / "state.json").write_text(json.dumps({**state(folder), **changed}))


def test_the_rules_are_rendered_whole_from_the_rows(
    simulated_host: Host, folder: Path, served: Runtime, owner: User, tenant: Tenant
) -> None:
    """Each runtime with its own tap, both ends of its link, and what its tenant's connectors need."""
    enable_github(tenant, owner)
    delivery.apply(simulated_host.pk)
    (found,) = newest(folder).tenants
    assert (found.runtime, found.tap[-5:]) == (served.pk, "-0000")
    assert [(host.name, host.port) for host in found.hosts] == allowed_hosts(tenant.pk)
    assert ("github.com", 443) in allowed_hosts(tenant.pk)
    assert found.guest.endswith(".2")
    assert found.listen.endswith(".1")


def test_nothing_is_sent_when_nothing_has_changed(
    simulated_host: Host, folder: Path, served: Runtime
) -> None:
    """One document, one entry for its making and one for its being in force."""
    for _ in range(3):
        delivery.apply(simulated_host.pk)
    assert [path.name for path in folder.glob("rules-*")] == ["rules-0000000001.json"]
    actions = (
        Entry.objects.filter(action__startswith="egress.").order_by("pk").values_list("action", flat=True)
    )
    assert list(actions) == ["egress.rules_issued", "egress.rules_applied"]


def test_a_change_makes_the_next_document(
    simulated_host: Host, folder: Path, served: Runtime, owner: User, tenant: Tenant
) -> None:
    """Opened, then closed: the number goes up each time, and the host's row says what is in force."""
    delivery.apply(simulated_host.pk)
    enable_github(tenant, owner)
    delivery.apply(simulated_host.pk)
    assert (newest(folder).generation, len(newest(folder).tenants[0].hosts) > 0) == (2, True)
    connector_disable(actor=Actor.of(owner), tenant=tenant, connector="github")
    delivery.apply(simulated_host.pk)
    assert (newest(folder).generation, newest(folder).tenants[0].hosts) == (3, ())
    simulated_host.refresh_from_db()
    assert (simulated_host.egress_generation, simulated_host.egress_applied) == (3, 3)
    assert simulated_host.egress_applied_at is not None


def test_in_force_is_said_only_when_it_is(
    simulated_host: Host, folder: Path, served: Runtime, owner: User, tenant: Tenant
) -> None:
    """From the change until the keeper has confirmed it: no. Then since when; another's change moves nothing."""
    assert egress_in_force(tenant.pk) is None
    delivery.apply(simulated_host.pk)
    first = egress_in_force(tenant.pk)
    assert first is not None
    enable_github(tenant, owner)
    assert egress_in_force(tenant.pk) is None
    delivery.apply(simulated_host.pk)
    since = egress_in_force(tenant.pk)
    assert since is not None
    change_state(folder, applied_at=state(folder)["applied_at"] + 1000)
    delivery.apply(simulated_host.pk)
    assert egress_in_force(tenant.pk) == since
    Runtime.objects.filter(pk=served.pk).update(phase="quarantined")
    delivery.apply(simulated_host.pk)
    assert egress_in_force(tenant.pk) is None


def test_a_machine_that_is_set_aside_reaches_nothing(
    simulated_host: Host, folder: Path, served: Runtime, owner: User, tenant: Tenant
) -> None:
    enable_github(tenant, owner)
    Runtime.objects.filter(pk=served.pk).update(phase="quarantined")
    delivery.apply(simulated_host.pk)
    assert newest(folder).tenants[0].hosts == ()


def test_only_what_this_host_serves(
    simulated_host: Host,
    folder: Path,
    served: Runtime,
    make_tenant: Callable[..., Tenant],
    make_host: Callable[..., Host],
    image: Any,
) -> None:
    """Neither another host's runtimes nor those that are not to be served."""
    make_served(make_host(name="other"), make_tenant("birch"), image, 1)
    closed = make_served(simulated_host, make_tenant("cedar"), image, 2)
    Runtime.objects.filter(pk=closed.pk).update(egress=False)
    delivery.apply(simulated_host.pk)
    assert [each.runtime for each in newest(folder).tenants] == [served.pk]


def test_a_lost_message_is_the_sweepers_business(
    simulated_host: Host,
    folder: Path,
    served: Runtime,
    owner: User,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody told a worker: the sweeper finds by the rows alone that something else is wanted."""
    sent: list[str] = []
    monkeypatch.setattr(egress_apply, "apply_async", lambda args, **_more: sent.extend(args))
    assert delivery.due() == [simulated_host.pk]
    delivery.apply(simulated_host.pk)
    assert delivery.due() == []
    enable_github(tenant, owner)
    operations_sweep()
    assert sent == [str(simulated_host.pk)]
    egress_apply(*sent)
    assert delivery.due() == []
    assert newest(folder).tenants[0].hosts


def test_a_change_tells_a_worker_at_once(
    simulated_host: Host, served: Runtime, owner: User, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the host that serves the tenant; no host is told of a tenant that none serves."""
    told: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        "provisioning.services.current_app.send_task", lambda task, args: told.append((task, args))
    )
    enable_github(tenant, owner)
    assert ("provisioning.tasks.egress_apply", [str(simulated_host.pk)]) in told
    Runtime.objects.filter(pk=served.pk).update(egress=False)
    told.clear()
    connector_disable(actor=Actor.of(owner), tenant=tenant, connector="github")
    assert told == []


def test_to_follow_is_to_have_number_and_content() -> None:
    """Either alone is somebody else's document."""
    wanted, other = rules.Rules(3, "fleet", ()), rules.Rules(3, "other", ())
    assert Report(generation=3, digest=wanted.digest).follows(wanted)
    assert not Report(generation=3, digest=other.digest).follows(wanted)
    assert not Report(generation=4, digest=wanted.digest).follows(wanted)


def test_hosts_without_a_proxy_are_left_alone(
    make_host: Callable[..., Host], tenant: Tenant, image: Any
) -> None:
    host = make_host()
    make_served(host, tenant, image, 0)
    delivery.apply(host.pk)
    assert delivery.due() == []
    assert not Entry.objects.filter(action__startswith="egress.").exists()


def test_two_workers_at_once_issue_one_document(
    simulated_host: Host,
    folder: Path,
    served: Runtime,
    owner: User,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both have looked at the keeper before either renders; a doubled message does no more than one."""
    delivery.apply(simulated_host.pk)
    enable_github(tenant, owner)
    barrier = threading.Barrier(2, timeout=30)
    issue = delivery._issue
    waited: set[int] = set()

    def together(*args: Any, **more: Any) -> rules.Rules:
        if threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            barrier.wait()
        return issue(*args, **more)

    monkeypatch.setattr(delivery, "_issue", together)
    at_once([lambda: delivery.apply(simulated_host.pk)] * 2)
    assert state(folder)["generation"] == 2
    assert Entry.objects.filter(action="egress.rules_issued").count() == 2
    assert egress_in_force(tenant.pk) is not None


def test_a_host_without_machines_takes_one_document_at_a_time(simulated_host: Host, folder: Path) -> None:
    """Workers that write the same at once are not in each other's way, nor do they leave anything torn."""

    def put() -> None:
        with connect(host_spec(simulated_host)) as driver:
            for generation in range(1, 30):
                body = rules.Rules(generation, driver.host.fleet, ()).to_bytes()
                driver.egress_put(generation, body)

    at_once([put] * 4)
    assert (state(folder)["generation"], newest(folder).generation) == (29, 29)


def test_a_worker_that_comes_late_changes_nothing(
    simulated_host: Host, folder: Path, served: Runtime, owner: User, tenant: Tenant
) -> None:
    """It had rendered the rules before a change, and sends them after the change is in force."""
    delivery.apply(simulated_host.pk)
    enable_github(tenant, owner)
    delivery.apply(simulated_host.pk)
    late = rules.Rules(1, newest(folder).fleet, ())
    with connect(host_spec(simulated_host)) as driver:
        driver.egress_put(1, late.to_bytes())
    assert state(folder)["generation"] == 2
    assert state(folder)["serving"] == [str(served.pk)]


def test_a_worker_that_notes_late_does_not_hide_what_is_newer(
    simulated_host: Host, folder: Path, served: Runtime, owner: User, tenant: Tenant
) -> None:
    """What it saw in force is written down only while nothing newer has been made."""
    delivery.apply(simulated_host.pk)
    old = newest(folder)
    with connect(host_spec(simulated_host)) as driver:
        seen = delivery.look(driver)
    enable_github(tenant, owner)
    delivery.apply(simulated_host.pk)
    since = egress_in_force(tenant.pk)
    delivery._note_reach(simulated_host.pk, old, seen)
    assert egress_in_force(tenant.pk) == since is not None


@pytest.mark.parametrize("gone_to", [1, 7, 40])
def test_a_database_from_an_older_copy_overtakes_the_proxy(
    simulated_host: Host, folder: Path, served: Runtime, gone_to: int
) -> None:
    """The proxy follows a document that this database knows nothing of: the next number is above it."""
    delivery.apply(simulated_host.pk)
    foreign = rules.Rules(gone_to, newest(folder).fleet, ())
    change_state(folder, generation=gone_to, digest=foreign.digest, serving=[str(uuid.uuid4())])
    delivery.apply(simulated_host.pk)
    assert state(folder)["generation"] == gone_to + 1
    assert Entry.objects.filter(action="egress.rules_issued").count() == 2
    assert state(folder)["serving"] == [str(served.pk)]


def test_a_refusal_of_what_we_never_sent_is_passed_by(
    simulated_host: Host, folder: Path, served: Runtime
) -> None:
    """It looks at no lower number any more: the database is a copy from before."""
    delivery.apply(simulated_host.pk)
    change_state(folder, generation=0, digest="", refused=7, ok=False, problem="squid -k parse says no")
    delivery.apply(simulated_host.pk, seconds=2)
    assert (state(folder)["generation"], state(folder)["ok"]) == (8, True)


def test_who_waits_for_a_keeper_that_never_follows_does_not_ask_without_a_pause(
    simulated_host: Host, folder: Path, served: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def follow(self: LocalKeeper, generation: int, body: bytes) -> None:
        asked.append(generation)
        change_state(folder, generation=generation + 1, digest="")

    delivery.apply(simulated_host.pk)
    monkeypatch.setattr(LocalKeeper, "follow", follow)
    Runtime.objects.filter(pk=served.pk).update(egress=False)
    with pytest.raises(NotInForce):
        delivery.apply(simulated_host.pk, seconds=0.5)
    assert 1 < len(asked) <= 12


def test_a_keeper_that_has_forgotten_is_told_again(
    simulated_host: Host, folder: Path, served: Runtime
) -> None:
    """Its folder was emptied: it gets the same document under the same number."""
    delivery.apply(simulated_host.pk)
    before = newest(folder)
    for path in folder.iterdir():
        path.unlink()
    delivery.apply(simulated_host.pk)
    assert newest(folder) == before
    assert state(folder)["generation"] == before.generation


def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper does not run: documents arrive and nobody reads them."""
    monkeypatch.setattr(LocalKeeper, "follow", lambda self, generation, body: None)


def test_a_keeper_that_does_not_run_is_named(
    simulated_host: Host, folder: Path, served: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the time given; on the host's page until it follows."""
    delivery.apply(simulated_host.pk)
    Runtime.objects.filter(pk=served.pk).update(egress=False)
    with monkeypatch.context() as patched:
        mute(patched)
        with pytest.raises(NotInForce, match=r"does not follow rules 2 yet\. See that it runs"):
            delivery.apply(simulated_host.pk, seconds=0.2)
        simulated_host.refresh_from_db()
        assert "See that it runs" in simulated_host.egress_problem
        assert (simulated_host.egress_generation, simulated_host.egress_applied) == (2, 1)
        with connect(host_spec(simulated_host)) as driver:
            delivery.note(simulated_host.pk, delivery.look(driver))
        simulated_host.refresh_from_db()
        assert "See that it runs" in simulated_host.egress_problem
    assert delivery.due() == [simulated_host.pk]
    (folder / "rules-0000000002.json").unlink()
    delivery.apply(simulated_host.pk)
    simulated_host.refresh_from_db()
    assert (simulated_host.egress_problem, simulated_host.egress_applied) == ("", 2)


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[int]:
    """A keeper that follows nothing; returns what it has refused."""
    refused: list[int] = []

    def follow(self: LocalKeeper, generation: int, body: bytes) -> None:
        refused.append(generation)
        change_state(folder, ok=False, problem="squid -k parse says no", refused=generation)

    monkeypatch.setattr(LocalKeeper, "follow", follow)
    return refused


def test_what_a_keeper_refuses_is_shown_and_not_sent_again_and_again(
    simulated_host: Host, folder: Path, served: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper asks each time and sends nothing more; an operation tries under a new number."""
    delivery.apply(simulated_host.pk)
    Runtime.objects.filter(pk=served.pk).update(egress=False)
    refused = refuse(monkeypatch, folder)
    for _ in range(3):
        with pytest.raises(RulesRefused, match="squid -k parse says no"):
            delivery.apply(simulated_host.pk)
    assert refused == [2]
    simulated_host.refresh_from_db()
    assert simulated_host.egress_problem == "squid -k parse says no"
    with connect(host_spec(simulated_host)) as driver, pytest.raises(RulesRefused):
        delivery.confirm(simulated_host.pk, driver)
    assert refused == [2, 3]


def test_a_refused_document_is_followed_by_a_better_one(
    simulated_host: Host, folder: Path, served: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.apply(simulated_host.pk)
    with monkeypatch.context() as patched:
        refuse(patched, folder)
        Runtime.objects.filter(pk=served.pk).update(egress=False)
        with pytest.raises(RulesRefused):
            delivery.apply(simulated_host.pk)
    Runtime.objects.filter(pk=served.pk).update(egress=True, phase="quarantined")
    delivery.apply(simulated_host.pk)
    simulated_host.refresh_from_db()
    assert simulated_host.egress_problem == ""


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"version": 2}', b"\xff" * 40, b"[" * 100_000]
)
def test_a_state_that_nobody_can_read_is_an_error_that_repeats_nothing(
    simulated_host: Host, folder: Path, served: Runtime, content: bytes
) -> None:
    delivery.apply(simulated_host.pk)
    (folder / "state.json").write_bytes(content)
    with pytest.raises(NotInForce, match=r"cannot be read\. See the keeper's log") as caught:
        delivery.apply(simulated_host.pk)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"generation": -1},
        {"generation": True},
        {"generation": "7"},
        {"applied_at": "x"},
        {"applied_at": 1e30},
        {"serving": ["x"]},
        {"serving": 7},
        {"dropped": []},
        {"dropped": {"x": {}}},
        {"dropped": {str(uuid.uuid4()): {"packets": 1 << 70, "bytes": 0}}},
        {"dropped": {str(uuid.uuid4()): {"packets": (1 << 53) + 1, "bytes": 0}}},
        {"digest": "\ud800"},
        {"digest": "\0" * 64},
        {"digest": 7},
        {"problem": 5},
        {"records": {"first": 1}},
        {"refused": -5},
    ],
)
def test_each_word_of_the_state_has_one_form(
    simulated_host: Host, folder: Path, served: Runtime, changed: dict[str, Any]
) -> None:
    delivery.apply(simulated_host.pk)
    change_state(folder, **changed)
    with pytest.raises(NotInForce, match="cannot be read"):
        delivery.apply(simulated_host.pk)


def test_a_keepers_words_are_one_printable_line(simulated_host: Host, folder: Path, served: Runtime) -> None:
    """They are shown to staff, and stand in the log."""
    delivery.apply(simulated_host.pk)
    change_state(folder, problem="a\nb\x1b[31m" + "c" * 1000)
    delivery.apply(simulated_host.pk)
    simulated_host.refresh_from_db()
    assert simulated_host.egress_problem.startswith("a b [31mccc")
    assert len(simulated_host.egress_problem) == 300


def test_too_many_runtimes_are_an_error_in_words(
    simulated_host: Host, folder: Path, served: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_TENANTS", 0)
    with pytest.raises(RulesRefused, match="cannot be written: 1 runtimes"):
        delivery.apply(simulated_host.pk)
    assert delivery.due() == [simulated_host.pk]


@pytest.mark.parametrize("where", ["row", "state"])
def test_no_number_is_left(simulated_host: Host, folder: Path, served: Runtime, where: str) -> None:
    """Somebody wrote the last one into the row, or the keeper says that it follows it: an error in words."""
    delivery.apply(simulated_host.pk)
    if where == "row":
        Host.objects.update(egress_generation=rules.MAX_GENERATION + 5)
    else:
        change_state(folder, generation=rules.MAX_GENERATION)
    with pytest.raises(RulesRefused, match="a generation is 1 to 9999999999"):
        delivery.apply(simulated_host.pk)


def test_a_changed_folder_is_not_obeyed(simulated_host: Host, served: Runtime, tmp_path: Path) -> None:
    """Web can write the column; the seal says that nobody registered it."""
    Host.objects.filter(pk=simulated_host.pk).update(egress_path=str(tmp_path / "elsewhere"))
    egress_apply(str(simulated_host.pk))  # says so in the log
    assert not (tmp_path / "elsewhere").exists()
    Host.objects.filter(pk=simulated_host.pk).update(egress_path=simulated_host.egress_path)


def test_a_number_and_its_entry_are_one(
    simulated_host: Host, served: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record cannot be written: nothing was issued, and nothing is sent."""

    def broken(**_kwargs: object) -> None:
        raise RuntimeError("the record is broken")

    monkeypatch.setattr(Entry.objects, "create", broken)
    sent: list[int] = []
    monkeypatch.setattr(SimulatedDriver, "egress_put", lambda self, generation, body: sent.append(generation))
    with pytest.raises(RuntimeError):
        delivery.apply(simulated_host.pk)
    assert (Host.objects.get().egress_generation, sent) == (0, [])


def test_a_runtime_that_is_deleted_cannot_be_served(served: Runtime) -> None:
    """The database itself refuses it."""
    with pytest.raises(IntegrityError):
        Runtime.objects.filter(pk=served.pk).update(phase="deleted", host=None, created_at=timezone.now())
