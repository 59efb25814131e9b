"""Names: unique per runtime and fleet, short enough for Linux, and readable back."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.driver import naming

fleets = st.from_regex(r"[a-z0-9]{4,8}", fullmatch=True)


@given(fleet=fleets, index=st.integers(0, naming.MAX_INDEX))
def test_device_names_fit_and_differ(fleet: str, index: int) -> None:
    following = (index + 1) % (naming.MAX_INDEX + 1)
    names = {
        device(fleet, each) for device in (naming.bridge_name, naming.tap_name) for each in (index, following)
    }
    assert len(names) == 4
    assert max(map(len, names)) <= 15


@given(fleet=fleets, runtime_id=st.uuids())
def test_names_give_the_runtime_back(fleet: str, runtime_id: UUID) -> None:
    assert naming.runtime_of(naming.domain_name(runtime_id), "rt-") == runtime_id
    assert naming.runtime_of(naming.network_name(fleet, runtime_id), f"rtn-{fleet}-") == runtime_id
    assert naming.runtime_of(naming.volume_name(runtime_id), "rt-", ".qcow2") == runtime_id
    assert naming.runtime_of(naming.personalisation_name(runtime_id), "rt-", ".qcow2") is None


@pytest.mark.parametrize(
    "name", ["rt-", "rt-x", f"rt-{UUID(int=1)}x", f"rt-{UUID(int=10)}".upper(), f"x-{UUID(int=1)}"]
)
def test_other_names_are_nobodys(name: str) -> None:
    assert naming.runtime_of(name, "rt-") is None


@pytest.mark.parametrize("index", [-1, 65536])
def test_an_index_beyond_the_name_is_refused(index: int) -> None:
    for device in (naming.bridge_name, naming.tap_name):
        with pytest.raises(ValueError, match="network index"):
            device("abcd", index)


@pytest.mark.parametrize("fleet", ["abc", "abcdefghi", "ABCD", "ab-c", "abcd\n", ""])
def test_a_malformed_fleet_is_refused(fleet: str) -> None:
    with pytest.raises(ValueError, match="fleet id"):
        naming.check_fleet(fleet)


def test_uuids_of_one_runtime_differ() -> None:
    runtime_id = uuid4()
    uuids = {naming.secret_uuid(runtime_id), naming.network_uuid(runtime_id), naming.filter_uuid(runtime_id)}
    assert len(uuids | {runtime_id}) == 4
