"""What a running machine is told, where none here could show it: shaped traffic, a disk that must not shrink.

The machine is a double that keeps what it is told; tests/driver/test_real_machine.py has the rest on real ones.
"""

from dataclasses import replace
from typing import Any

import pytest

from provisioning.driver import HostSpec, RuntimeSpec, storage, tuning
from provisioning.driver.types import Engine, NoSpace
from tests.driver.support import runtime

HOST = HostSpec("qemu:///system", Engine.QEMU, "dttune", "/pool", frozenset({"bandwidth"}))
GIB = 1024**3


class Double:
    """A machine as it was defined."""

    def __init__(self) -> None:
        self.cpu: dict[str, int] = {"vcpu_quota": 50_000}
        self.disk: dict[str, int] = {"total_iops_sec": 200}
        self.link: dict[str, int] = {"inbound.average": 0, "outbound.average": 0, "inbound.peak": 0}
        self.size = 4 * GIB
        self.told: list[str] = []

    def schedulerParametersFlags(self, _flags: int) -> dict[str, int]:
        return self.cpu

    def setSchedulerParametersFlags(self, wanted: dict[str, int], _flags: int) -> None:
        self._set("cpu", wanted)

    def blockIoTune(self, _disk: str, _flags: int) -> dict[str, int]:
        return self.disk

    def setBlockIoTune(self, _disk: str, wanted: dict[str, int], _flags: int) -> None:
        self._set("disk", wanted)

    def interfaceParameters(self, _mac: str, _flags: int) -> dict[str, int]:
        return self.link

    def setInterfaceParameters(self, _mac: str, wanted: dict[str, int], _flags: int) -> None:
        self._set("link", wanted)

    def blockInfo(self, _disk: str) -> list[int]:
        return [self.size, 0, 0]

    def blockResize(self, _disk: str, size: int, _flags: int) -> None:
        self.size = size
        self.told.append("size")

    def name(self) -> str:
        return "rt-double"

    def _set(self, part: str, wanted: dict[str, int]) -> None:
        getattr(self, part).update(wanted)
        self.told.append(part)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    machine = Double()
    monkeypatch.setattr(tuning, "running", lambda *_given: machine)
    monkeypatch.setattr(storage, "active_pool", lambda *_given: Pool())
    return machine


class Pool:
    """With 10 GiB free."""

    def info(self) -> list[int]:
        return [0, 0, 0, 10 * GIB]


@pytest.fixture
def spec() -> RuntimeSpec:
    image: Any = None
    return replace(runtime(image), disk_gib=4)


def test_traffic_is_shaped_each_way_and_set_free_again(double: Double, spec: RuntimeSpec) -> None:
    """Kilobytes a second; 0 is no limit. What is right already is left alone."""
    for rate, told in ((8, 1000), (80, 10_000), (None, 0)):
        wanted = replace(spec, bandwidth_mbit=rate)
        assert tuning.tune(None, HOST, wanted) is True
        assert (double.link["inbound.average"], double.link["outbound.average"]) == (told, told)
        assert tuning.tune(None, HOST, wanted) is False
    assert double.told == ["link"] * 3


def test_a_host_that_cannot_shape_is_not_asked(double: Double, spec: RuntimeSpec) -> None:
    unable = replace(HOST, capabilities=frozenset())
    assert tuning.tune(None, unable, replace(spec, bandwidth_mbit=8)) is False
    assert double.told == []


def test_no_limit_on_operations_is_zero(double: Double, spec: RuntimeSpec) -> None:
    assert tuning.tune(None, HOST, replace(spec, iops=None)) is True
    assert double.disk["total_iops_sec"] == 0


@pytest.mark.parametrize(("wanted", "size"), [(3, 4), (4, 4), (5, 5), (14, 14)])
def test_a_disk_grows_and_never_shrinks(double: Double, spec: RuntimeSpec, wanted: int, size: int) -> None:
    """``blockResize`` would shrink it without asking."""
    assert tuning.grow(None, HOST, replace(spec, disk_gib=wanted)) is (size > 4)
    assert double.size == size * GIB


def test_a_disk_grows_only_into_free_room(double: Double, spec: RuntimeSpec) -> None:
    with pytest.raises(NoSpace, match=r"10\.0 GiB free"):
        tuning.grow(None, HOST, replace(spec, disk_gib=15))
    assert double.size == 4 * GIB
