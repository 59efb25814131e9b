"""The rule document: one form for one meaning, and nothing in it that could become configuration."""

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import canonical
from provisioning.egress.rules import (
    MAX_BYTES,
    MAX_GENERATION,
    MAX_HOSTS,
    MAX_TENANTS,
    AllowedHost,
    Rules,
    RulesError,
    TenantRules,
    file_name,
    generation_of,
    parse,
)

API = AllowedHost("api.github.com", 443)


def tenant(number: int = 0, hosts: tuple[AllowedHost, ...] = (API,)) -> TenantRules:
    base = f"10.9.{number // 64}."
    first = 4 * (number % 64) + 1
    return TenantRules(
        UUID(int=number + 1), f"ptfleet-{number:04x}", f"{base}{first}", f"{base}{first + 1}", hosts
    )


RULES = Rules(7, "fleet", (tenant(0), tenant(1, ())))


def signed(document: Any) -> bytes:
    body = canonical(document)
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RULES.to_bytes().splitlines()[0])
    return found


def test_a_document_survives_the_way_through_a_file() -> None:
    assert parse(RULES.to_bytes()) == RULES
    assert RULES.to_bytes().splitlines()[1].decode() == RULES.digest


@pytest.mark.parametrize("length", range(len(RULES.to_bytes())))
def test_half_an_upload_is_refused(length: int) -> None:
    with pytest.raises(RulesError, match="incomplete"):
        parse(RULES.to_bytes()[:length])


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(RulesError):
        parse(data)
    with pytest.raises(RulesError):
        parse(data + b"\n" + hashlib.sha256(data).hexdigest().encode() + b"\n")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)


@given(st.sampled_from(["version", "generation", "fleet", "tenants"]), _JSON)
def test_a_field_of_any_other_form_is_refused(field: str, value: Any) -> None:
    found = document() | {field: value}
    try:
        assert parse(signed(found)).to_bytes() == signed(found)
    except RulesError:
        return
    assert field in {"generation", "version"} or value in ([], found["fleet"])


@given(st.sampled_from(["runtime", "tap", "listen", "guest", "hosts"]), _JSON)
def test_a_field_of_a_runtime_of_any_other_form_is_refused(field: str, value: Any) -> None:
    found = document()
    found["tenants"][0][field] = value
    if field == "hosts" and value == []:
        parse(signed(found))
        return
    with pytest.raises(RulesError):
        parse(signed(found))


@given(st.text(max_size=40))
def test_a_name_holds_nothing_but_letters_digits_hyphens_and_dots(name: str) -> None:
    try:
        AllowedHost(name, 443)
    except RulesError:
        return
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "localhost", "127.0.0.1", "0x7f.1", "1.2.3", "::1", "[::1]", "github.com.", ".github.com", "*.github.com",
        "GitHub.com", "git hub.com", "github.com\n", "github.com\nhttp_access allow all", "-a.com", "a-.com", "a..com",
        "ä.com", "github.com:443", "a." + "b" * 64, "a." * 127 + "com", "x.com/", "x.com#", '"x.com"', "a.1com", 5, None, b"a.com",
    ],
)  # fmt: skip
def test_a_name_that_is_not_an_exact_host_name_is_refused(name: Any) -> None:
    with pytest.raises(RulesError, match="host name"):
        AllowedHost(name, 443)


@pytest.mark.parametrize("port", [0, -1, 65536, True, "443", 443.0, None])
def test_a_port_that_is_none_is_refused(port: Any) -> None:
    with pytest.raises(RulesError, match="port"):
        AllowedHost("a.example", port)


@pytest.mark.parametrize(
    ("listen", "guest"),
    [
        ("10.0.0.1", "10.0.0.3"), ("10.0.0.2", "10.0.0.3"), ("10.0.0.2", "10.0.0.1"), ("10.0.0.5", "10.0.0.2"),
        ("127.0.0.1", "127.0.0.2"), ("8.8.8.9", "8.8.8.10"), ("169.254.0.1", "169.254.0.2"), ("10.0.0.01", "10.0.0.2"),
        ("0.0.0.1", "0.0.0.3"), ("10.0.0.1", None), (1, 2), ("10.0.0.1 ", "10.0.0.2"), ("::1", "::2"),
    ],
)  # fmt: skip
def test_addresses_that_are_not_a_runtimes_link_are_refused(listen: Any, guest: Any) -> None:
    with pytest.raises(RulesError):
        TenantRules(UUID(int=1), "ptfleet-0000", listen, guest, ())


def test_two_runtimes_never_share_a_tap_an_address_or_an_id() -> None:
    one, two = tenant(0), tenant(1)
    for twin in (
        one,
        TenantRules(two.runtime, one.tap, two.listen, two.guest, ()),
        TenantRules(two.runtime, two.tap, one.listen, one.guest, ()),
    ):
        with pytest.raises(RulesError, match=r"same|twice"):
            Rules(1, "fleet", (one, twin))


def test_order_is_part_of_the_form() -> None:
    with pytest.raises(RulesError, match="sorted"):
        Rules(1, "fleet", (tenant(1), tenant(0)))
    with pytest.raises(RulesError, match="sorted"):
        tenant(0, (AllowedHost("b.example", 443), API))


def test_a_tap_of_another_fleet_is_refused() -> None:
    with pytest.raises(RulesError, match="tap"):
        Rules(1, "other", (tenant(0),))


def test_limits() -> None:
    names = tuple(sorted(AllowedHost(f"h{n}.example", 443) for n in range(MAX_HOSTS)))
    whole = Rules(MAX_GENERATION, "fleet", tuple(tenant(n, names) for n in range(MAX_TENANTS)))
    assert parse(whole.to_bytes()) == whole
    assert len(whole.to_bytes()) < MAX_BYTES
    with pytest.raises(RulesError, match="limit"):
        tenant(0, (*names, AllowedHost("z.example", 1)))
    with pytest.raises(RulesError, match="at most"):
        Rules(1, "fleet", tuple(tenant(n) for n in range(MAX_TENANTS + 1)))
    with pytest.raises(RulesError, match="larger"):
        parse(b" " * (MAX_BYTES + 1))


@pytest.mark.parametrize("generation", [0, -1, MAX_GENERATION + 1, True, "1", 1.0, None])
def test_a_generation_that_is_none_is_refused(generation: Any) -> None:
    with pytest.raises(RulesError, match="generation"):
        Rules(generation, "fleet", ())


def test_another_layout_of_the_same_document_is_refused() -> None:
    body = json.dumps(document(), indent=1).encode()
    with pytest.raises(RulesError, match="canonical"):
        parse(body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n")


def test_a_file_name_says_the_generation() -> None:
    assert file_name(7) == "rules-0000000007.json"
    assert generation_of(file_name(MAX_GENERATION)) == MAX_GENERATION
    for name in (
        "rules-7.json",
        "rules-0000000000.json",
        "rules-0000000007.json.part",
        "../rules-0000000007.json",
    ):
        assert generation_of(name) is None
