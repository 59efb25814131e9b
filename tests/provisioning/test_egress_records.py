"""Records of outside connections: each line once, whoever dies; whose they are; and how long they stay."""

import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from audit.models import Entry
from provisioning.addresses import link
from provisioning.driver import SimulatedDriver
from provisioning.egress import attempts, collecting, delivery
from provisioning.egress.journal import file_name
from provisioning.models import EgressCursor, EgressRecord, Host, Runtime
from provisioning.tasks import egress_collect, egress_purge
from tenants.models import Tenant
from tests.provisioning.test_egress_delivery import change_state, make_served
from tests.races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
NOW = 1_790_000_000


@pytest.fixture
def served(simulated_host: Host, tenant: Tenant, image: Any) -> Runtime:
    runtime = make_served(simulated_host, tenant, image, 0)
    delivery.apply(simulated_host.pk)
    return runtime


@pytest.fixture
def folder(simulated_host: Host, served: Runtime) -> Path:
    return Path(simulated_host.egress_path)


def line(
    runtime: Runtime | str,
    name: str = "api.github.com",
    *,
    at: float = NOW,
    up: int = 10,
    down: int = 20,
    refused: str = "",
    port: str = "443",
    took: int = 1500,
) -> str:
    """As Squid writes it."""
    who = runtime if isinstance(runtime, str) else str(runtime.pk)
    listen = "10.9.9.9" if isinstance(runtime, str) else link(runtime.network_index).host_address
    status = "TCP_DENIED" if refused else "TCP_TUNNEL"
    mode = "splice" if not refused else "-"
    return f"1 {at:.3f} {took} {who} {listen} CONNECT {name} {port} {up} {down} {mode} {refused or '-'} {status} -\n"


def write(folder: Path, *lines: str, number: int = 1, last: int | None = None, first: int = 1) -> Path:
    """Append to a file of records, and have the keeper tell of it."""
    path = folder / file_name(number)
    with path.open("a") as file:
        file.writelines(lines)
    change_state(folder, records={"first": first, "last": last or number})
    return path


def shown() -> list[tuple[str, str, str, int]]:
    rows = EgressRecord.objects.order_by("pk")
    return [(row.host, row.verdict, row.reason, row.attempts) for row in rows]


def attempts_kept() -> int:
    return sum(row.attempts for row in EgressRecord.objects.all())


def test_an_attempt_becomes_a_row(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """Tenant, place, bytes, verdict, time; no path, since nobody ever sees one."""
    write(
        folder, line(served, up=517, down=70_000), line(served, "evil.example", refused="name", port="8443")
    )
    collecting.collect(simulated_host)
    allowed, refused = EgressRecord.objects.order_by("pk")
    assert (allowed.tenant, allowed.runtime) == (served.tenant, served)
    assert (allowed.host, allowed.port, allowed.verdict, allowed.reason) == (
        "api.github.com",
        443,
        "allowed",
        "",
    )
    assert (allowed.bytes_up, allowed.bytes_down, allowed.seconds) == (517, 70_000, 1.5)
    assert allowed.at.timestamp() == min(NOW, allowed.at.timestamp())
    assert (refused.host, refused.port, refused.verdict, refused.reason) == (
        "evil.example",
        8443,
        "refused",
        "name",
    )


def test_each_line_is_taken_once(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """Again and again: only what is new; half a line waits for its other half."""
    path = write(folder, line(served), line(served, "github.com"))
    for _ in range(3):
        collecting.collect(simulated_host)
    assert attempts_kept() == 2
    half = line(served, "codeload.github.com")
    with path.open("a") as file:
        file.write(half[:40])
    collecting.collect(simulated_host)
    assert attempts_kept() == 2
    with path.open("a") as file:
        file.write(half[40:])
    collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["api.github.com", "github.com", "codeload.github.com"]


def test_files_follow_each_other(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """Also empty ones, and one that ends in the middle of a line since Squid was killed."""
    write(folder, line(served, "one.example.com"), line(served, "cut.example.com")[:30])
    write(folder, number=2)
    (folder / file_name(2)).touch()
    write(folder, line(served, "three.example.com"), number=3)
    collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["one.example.com", "three.example.com"]
    cursor = EgressCursor.objects.get()
    assert (cursor.file, cursor.offset) == (3, len(line(served, "three.example.com")))


def test_what_was_dropped_before_we_came_is_an_entry(
    simulated_host: Host, served: Runtime, folder: Path
) -> None:
    """The keeper keeps so many files and no more; the gap is told, and we go on behind it."""
    write(folder, line(served, "one.example.com"))
    collecting.collect(simulated_host)
    (folder / file_name(1)).unlink()
    write(folder, line(served, "nine.example.com"), number=9, first=9)
    collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["one.example.com", "nine.example.com"]
    entry = Entry.objects.get(action="egress.records_lost")
    assert entry.target_id == str(simulated_host.pk)


def test_a_file_that_is_gone_from_among_the_others_is_an_entry(
    simulated_host: Host, served: Runtime, folder: Path
) -> None:
    """An empty one is none: nothing was recorded while it was the last."""
    write(folder, line(served, "one.example.com"))
    write(folder, number=2)
    write(folder, line(served, "four.example.com"), number=4)
    collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["one.example.com", "four.example.com"]
    assert '"after":"3:0","next":"4:0"' in Entry.objects.get(action="egress.records_lost").event


def test_a_keeper_that_counts_anew_is_followed(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """Its folder was emptied: its numbers begin again below ours."""
    write(folder, line(served, "nine.example.com"), number=9, first=9)
    collecting.collect(simulated_host)
    write(folder, line(served, "one.example.com"), number=1)
    collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["nine.example.com", "one.example.com"]
    assert Entry.objects.filter(action="egress.records_lost").count() == 1


def test_alike_attempts_of_one_part_are_one_row(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """How many, their bytes together, the last one's time, the longest one's length."""
    write(folder, *(line(served, at=NOW + n, up=1, down=2, took=100 * n) for n in range(5)))
    write(folder, line(served, refused="sni"))
    collecting.collect(simulated_host)
    assert shown() == [("api.github.com", "allowed", "", 5), ("api.github.com", "refused", "sni", 1)]
    row = EgressRecord.objects.order_by("pk")[0]
    assert (row.bytes_up, row.bytes_down, row.seconds) == (5, 10, 0.4)


def test_a_guest_that_floods_fills_its_own_rows_only(
    simulated_host: Host, served: Runtime, folder: Path, make_tenant: Callable[..., Tenant], image: Any
) -> None:
    """A thousand places at once: a hundred rows and one for the rest, nothing uncounted, the neighbour whole."""
    other = make_served(simulated_host, make_tenant("birch"), image, 1)
    write(folder, *(line(served, f"h{n}.example.com", refused="name") for n in range(1000)))
    write(folder, line(other, "github.com"))
    collecting.collect(simulated_host)
    mine = EgressRecord.objects.filter(tenant=served.tenant)
    assert mine.count() == attempts.PLACES + 1
    assert sum(row.attempts for row in mine) == 1000
    assert mine.get(reason="many").attempts == 1000 - attempts.PLACES
    assert EgressRecord.objects.get(tenant=other.tenant).host == "github.com"


def test_a_flood_is_taken_over_in_turns(
    simulated_host: Host, served: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a bounded size, so many at once; the next look goes on where this one stopped."""
    monkeypatch.setattr(collecting, "PART_BYTES", 1000)
    monkeypatch.setattr(collecting, "PARTS_AT_ONCE", 3)
    write(folder, *(line(served) for _ in range(100)))
    collecting.collect(simulated_host)
    first = attempts_kept()
    assert 0 < first < 30
    for _ in range(20):
        collecting.collect(simulated_host)
    assert attempts_kept() == 100


def test_a_host_speaks_for_its_own_runtimes_only(
    simulated_host: Host,
    served: Runtime,
    folder: Path,
    make_host: Callable[..., Host],
    make_tenant: Callable[..., Tenant],
    image: Any,
) -> None:
    """A proxy that was taken over writes nothing into another host's tenants; nobody's lines are left out."""
    elsewhere = make_served(make_host(name="other"), make_tenant("birch"), image, 1)
    write(folder, line(elsewhere), line(str(uuid.uuid4())), line(served, "github.com"))
    collecting.collect(simulated_host)
    assert [(row.tenant, row.host) for row in EgressRecord.objects.all()] == [(served.tenant, "github.com")]


def test_a_deleted_machines_last_lines_are_its_tenants(
    simulated_host: Host, served: Runtime, folder: Path
) -> None:
    """They are read after it is gone, and its host with it."""
    write(folder, line(served))
    Runtime.objects.filter(pk=served.pk).update(phase="deleted", host=None, egress=False, egress_at=None)
    collecting.collect(simulated_host)
    assert EgressRecord.objects.get().tenant == served.tenant


def test_an_unreadable_request_is_told_by_its_address(
    simulated_host: Host, served: Runtime, folder: Path
) -> None:
    """The proxy could not tell whose it was; only who has the address now, and had it then, can be meant."""
    ends = link(served.network_index).host_address
    bare = "1 {at} 0 - " + ends + " NONE - - 0 3500 - - NONE_NONE ERR_INVALID_REQ\n"
    later = int(timezone.now().timestamp())
    write(folder, bare.format(at=f"{later}.999"), bare.format(at=f"{NOW - 10**8}.000"))
    collecting.collect(simulated_host)
    row = EgressRecord.objects.get()
    assert (row.tenant, row.host, row.port, row.verdict) == (served.tenant, "", 0, "refused")
    assert row.attempts == 1


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "1 2 3",
        "\x00\x01",
        "1 1790000000.000 0 not-a-uuid 10.0.0.1 CONNECT a.b 443 0 0 splice - TCP_TUNNEL -",
        "1 999999999999.000 0 - 10.0.0.1 CONNECT a.b 443 0 0 splice - TCP_TUNNEL -",
        "é" * 100,
        "z" * 9000,
    ],
)
def test_what_nobody_can_read_stops_nothing(
    simulated_host: Host, served: Runtime, folder: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The lines before and after it are kept; the log says how many, and repeats nothing."""
    write(folder, line(served, "before.example.com"), bad + "\n", line(served, "after.example.com"))
    collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["before.example.com", "after.example.com"]
    if len(bad) > 5:
        assert bad[5:] not in caplog.text


def test_a_line_without_an_end_is_passed_over(
    simulated_host: Host, served: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than any part: else nothing behind it would ever be read."""
    monkeypatch.setattr(collecting, "PART_BYTES", 10_000)
    write(folder, "z" * 25_000 + "\n", line(served))
    for _ in range(3):
        collecting.collect(simulated_host)
    assert [row[0] for row in shown()] == ["api.github.com"]


def test_a_row_is_never_from_the_future(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """It would outstay its time."""
    write(folder, line(served, at=99_999_999_999))
    collecting.collect(simulated_host)
    assert EgressRecord.objects.get().at <= timezone.now()


def test_huge_numbers_do_not_overflow(simulated_host: Host, served: Runtime, folder: Path) -> None:
    huge = 10**18 - 1
    write(folder, *(line(served, up=huge, down=huge) for _ in range(12)))
    collecting.collect(simulated_host)
    assert EgressRecord.objects.get().bytes_up == (1 << 63) - 1


def test_two_who_collect_at_once_take_each_line_once(
    simulated_host: Host, served: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read the same part before either writes: one of them finds the cursor moved."""
    write(folder, *(line(served, f"h{n}.example.com") for n in range(20)))
    barrier = threading.Barrier(2, timeout=30)
    reading = SimulatedDriver.egress_read
    waited: set[int] = set()

    def read(self: SimulatedDriver, name: str, offset: int, length: int) -> bytes | None:
        part = reading(self, name, offset, length)
        if threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            barrier.wait()
        return part

    monkeypatch.setattr(SimulatedDriver, "egress_read", read)
    EgressCursor.objects.create(host=simulated_host, file=1)
    at_once([lambda: collecting.collect(simulated_host)] * 2)
    assert attempts_kept() == 20


@pytest.mark.parametrize("instant", ["rows", "cursor", "commit"])
def test_a_collector_that_is_killed_leaves_all_or_nothing(
    simulated_host: Host,
    served: Runtime,
    folder: Path,
    children_environment: dict[str, str],
    instant: str,
) -> None:
    """After the cursor, after the rows, and after the transaction: the next one ends with each line once."""
    write(folder, *(line(served, f"h{n}.example.com") for n in range(10)))
    code = """
import django, os, signal, sys
django.setup()
from provisioning.egress import collecting
from provisioning.models import EgressCursor, EgressRecord, Host
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
instant, host = sys.argv[1], Host.objects.get(pk=sys.argv[2])
if instant == "cursor":
    EgressRecord.objects.bulk_create = die
if instant == "rows":
    made = EgressRecord.objects.bulk_create
    EgressRecord.objects.bulk_create = lambda *a, **k: (made(*a, **k), a[0] and die())
if instant == "commit":
    move = collecting._move
    collecting._move = lambda *a, **k: (move(*a, **k), len(a) > 3 and die())[0]
collecting.collect(host)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, instant, str(simulated_host.pk)],
        cwd=ROOT,
        env=children_environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    collecting.collect(simulated_host)
    assert sorted(row[0] for row in shown()) == sorted(f"h{n}.example.com" for n in range(10))
    assert attempts_kept() == 10


def test_packets_past_the_proxy_are_counted_across_restarts(
    simulated_host: Host, served: Runtime, folder: Path
) -> None:
    """The host's counter goes up, stands still, and starts anew with the host; ours only goes up."""
    for packets, total in ((3, 3), (3, 3), (10, 10), (2, 12), (2, 12), (5, 15)):
        change_state(folder, dropped={str(served.pk): {"packets": packets, "bytes": 60 * packets}})
        collecting.collect(simulated_host)
        served.refresh_from_db()
        assert (served.direct_packets, served.direct_bytes) == (total, 60 * total)
    assert served.direct_at is not None


def test_another_hosts_counters_are_not_believed(
    simulated_host: Host, served: Runtime, folder: Path, make_host: Callable[..., Host]
) -> None:
    Runtime.objects.filter(pk=served.pk).update(host=make_host(name="other"))
    change_state(folder, dropped={str(served.pk): {"packets": 9, "bytes": 9}})
    collecting.collect(simulated_host)
    served.refresh_from_db()
    assert served.direct_packets == 0


def test_one_hosts_trouble_is_not_the_others(
    simulated_host: Host, served: Runtime, folder: Path, make_host: Callable[..., Host]
) -> None:
    """A host that cannot be reached, in front of one that can."""
    make_host(name="a-dead-one", uri="test+unix:///default?socket=/nowhere", egress_path="/nowhere")
    write(folder, line(served))
    egress_collect()
    assert attempts_kept() == 1


def test_a_keeper_that_falls_silent_is_shown(simulated_host: Host, served: Runtime, folder: Path) -> None:
    """It writes its state every ten seconds while it lives."""
    change_state(folder, seen_at=int(timezone.now().timestamp()) - 120)
    egress_collect()
    simulated_host.refresh_from_db()
    assert "has said nothing for a minute" in simulated_host.egress_problem
    change_state(folder, seen_at=int(timezone.now().timestamp()))
    egress_collect()
    simulated_host.refresh_from_db()
    assert simulated_host.egress_problem == ""


def make_rows(runtime: Runtime, count: int, days: float = 0) -> None:
    at = timezone.now() - timedelta(days=days)
    EgressRecord.objects.bulk_create(
        EgressRecord(
            tenant=runtime.tenant,
            runtime=runtime,
            at=at,
            host=f"h{n}.example.com",
            port=443,
            verdict="allowed",
        )
        for n in range(count)
    )


def test_rows_go_when_their_time_is_up(served: Runtime, settings: Any) -> None:
    """With an entry that says how many; none when none went."""
    settings.EGRESS_RETENTION_DAYS = 7
    make_rows(served, 3, days=7.1)
    make_rows(served, 2, days=6.9)
    egress_purge()
    assert EgressRecord.objects.count() == 2
    assert '"rows":3' in Entry.objects.get(action="egress.records_purged").event
    egress_purge()
    assert Entry.objects.filter(action="egress.records_purged").count() == 1


def test_a_tenants_oldest_rows_go_beyond_the_limit(
    served: Runtime,
    settings: Any,
    simulated_host: Host,
    make_tenant: Callable[..., Tenant],
    image: Any,
) -> None:
    """Its own, never another's."""
    settings.EGRESS_RECORDS = 5
    other = make_served(simulated_host, make_tenant("birch"), image, 1)
    make_rows(other, 5)
    make_rows(served, 12)
    egress_purge()
    assert EgressRecord.objects.filter(tenant=other.tenant).count() == 5
    left = EgressRecord.objects.filter(tenant=served.tenant).order_by("pk").values_list("host", flat=True)
    assert list(left) == [f"h{n}.example.com" for n in range(7, 12)]


def test_rows_do_not_go_without_an_entry(served: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    make_rows(served, 3, days=60)

    def broken(**_kwargs: object) -> None:
        raise RuntimeError("the record is broken")

    monkeypatch.setattr(Entry.objects, "create", broken)
    with pytest.raises(RuntimeError):
        collecting.purge()
    assert EgressRecord.objects.count() == 3


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.just(b"1 1790000000.000 0 - 10.0.0.1 CONNECT a.b 443 0 0 splice - TCP_TUNNEL -"),
        ),
        max_size=20,
    ),
    st.binary(max_size=30),
)
def test_any_bytes_are_read_to_the_last_line_break(lines: list[bytes], rest: bytes) -> None:
    """Never an exception, never a byte twice, and never half a line."""
    part = b"".join(each.replace(b"\n", b"") + b"\n" for each in lines) + rest.replace(b"\n", b"")
    found, taken, bad = attempts.read(part)
    assert taken == part.rfind(b"\n") + 1
    assert len(found) + bad <= len(lines)


def test_one_keeper_that_cannot_be_borne_keeps_no_other_from_being_read(
    monkeypatch: pytest.MonkeyPatch, make_host: Callable[..., Host]
) -> None:
    """Whatever goes wrong at one host is that host's."""
    hosts = [make_host(name=name, egress_path=f"/srv/{name}") for name in ("one", "two")]
    seen = []

    def collect(host: Host) -> None:
        seen.append(host.pk)
        if host.pk == hosts[0].pk:
            raise ValueError("a lone surrogate")

    monkeypatch.setattr(collecting, "collect", collect)
    egress_collect.apply()
    assert seen == [host.pk for host in hosts]
