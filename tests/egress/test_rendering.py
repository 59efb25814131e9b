"""What the keeper writes for Squid and for the packet filter, where no packet can show it."""

import ipaddress
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.egress import nft
from provisioning.egress.ranges import FORBIDDEN_V4
from provisioning.egress.rules import MAX_TENANTS, Rules
from provisioning.egress.squid import MAX_TUNNELS, Proxy, render, tunnels
from tests.egress.test_rules import tenant

PROXY = Proxy(3128, Path("/run/egress"), Path("/run/egress/access.log"), ("203.0.113.1",), 40000, 4096)
WALL = nft.Wall("fleet", 61184, ("203.0.113.1",), proxy_port=3128, agent_port=8443)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.192", "192.88.99.1",  # noqa: S104
        "192.168.1.1", "198.18.0.1", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    ],
)  # fmt: skip
def test_the_table_holds_every_range_that_is_nobodys_public_address(address: str) -> None:
    assert any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in FORBIDDEN_V4)


@given(st.ip_addresses(v=4))
def test_what_is_not_global_is_forbidden(address: ipaddress.IPv4Address) -> None:
    """Python's table is another one; documentation ranges are left out on purpose."""
    documents = [ipaddress.ip_network(f"{each}/24") for each in ("192.0.2.0", "198.51.100.0", "203.0.113.0")]
    if not address.is_global and not any(address in each for each in documents):
        assert any(address in ipaddress.ip_network(each) for each in FORBIDDEN_V4)


@given(st.integers(300, 70_000), st.integers(0, MAX_TENANTS))
def test_all_guests_together_leave_descriptors_over(descriptors: int, tenants: int) -> None:
    proxy = Proxy(3128, Path("/run"), Path("/run/log"), ("203.0.113.1",), 1, descriptors)
    each = tunnels(proxy, tenants)
    assert 2 <= each <= MAX_TUNNELS
    assert each == 2 or 2 * each * tenants + 256 <= descriptors


def test_each_list_of_rules_ends_with_a_refusal() -> None:
    lines = render((tenant(0), tenant(1, ())), PROXY, "1-1").splitlines()
    for name, last in (
        ("http_access", "deny all"),
        ("miss_access", "deny all"),
        ("ssl_bump", "terminate all why_sni"),
    ):
        assert [line for line in lines if line.startswith(f"{name} ")][-1] == f"{name} {last}"
    for name in ("http_access", "miss_access"):
        opened = [line for line in lines if line.startswith(f"{name} allow")]
        assert all(line.split()[2] in {"at_hello", "at_connect"} for line in opened)


def test_nothing_of_a_page_or_path_is_written_down() -> None:
    log = [line for line in render((tenant(0),), PROXY, "1-1").splitlines() if line.startswith("logformat")]
    assert len(log) == 1
    assert not {"%ru", "%>ru", "%rp", "%>rp", "%>h", "%<h"} & set(log[0].split())


def test_a_host_without_tenants_refuses_everything() -> None:
    text = render((), PROXY, "1-1")
    assert "acl allowed any-of nothing" in text
    assert "acl same_name any-of nothing" in text


def test_counters_go_on_and_tables_change_in_one_step() -> None:
    rules = Rules(1, "fleet", (tenant(0),))
    name = nft.counter(UUID(int=1))
    text = nft.render(WALL, rules, {name: nft.Count(7, 700), nft.WALLED: nft.Count(1, 60)})
    assert f"counter {name} {{ packets 7 bytes 700 }}" in text
    assert "counter walled { packets 1 bytes 60 }" in text
    for family in ("inet", "bridge"):
        assert f"add table {family} egress_fleet\ndelete table {family} egress_fleet\n" in text


def test_counters_are_read_by_name() -> None:
    listing = '{"nftables": [{"metainfo": {}}, {"counter": {"family": "inet", "name": "walled", "packets": 3, "bytes": 180}}]}'
    assert nft.counts(listing) == {"walled": nft.Count(3, 180)}
    assert nft.runtime_of(nft.counter(UUID(int=5))) == UUID(int=5)
    assert nft.runtime_of("walled") is None


@pytest.mark.parametrize(
    "bad", [-1, 1 << 63, 10**30, 1.5, True, "7", None, float("inf"), [], {}], ids=lambda each: str(each)[:8]
)
def test_a_count_that_no_kernel_has_told_is_passed_over(bad: object) -> None:
    """The state lies where Squid's user may write; with one such number the packet filter would not be taken."""
    good, other = (tenant(number) for number in range(2))
    state = {
        "walled": {"packets": bad, "bytes": 1},
        "dropped": {
            str(good.runtime): {"packets": 3, "bytes": 4},
            str(other.runtime): {"packets": 1, "bytes": bad},
        },
    }
    assert nft.counts_told(state) == {nft.counter(good.runtime): nft.Count(3, 4)}


@pytest.mark.parametrize("bad", [{}, {"dropped": None}, {"dropped": [], "walled": 3}, {"dropped": {"x": 1}}])
def test_a_state_of_another_form_has_no_counts(bad: dict[str, object]) -> None:
    assert nft.counts_told(bad) == {}
