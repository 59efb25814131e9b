"""Fault points: off unless allowed, precise when armed, and present around every call that changes a host."""

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.driver import FAULT_POINTS, InjectedFault, fault_point, faults
from provisioning.driver.faults import arm, around

DRIVER = Path(faults.__file__).parent
PROBE_ONLY = {"probe.py"}
"""Its machines and networks are transient and die with its connection."""
MUTATING = {
    "build", "create", "createWithFlags", "createXML", "defineXML", "defineXMLFlags", "delete", "destroy",
    "destroyFlags", "networkCreateXML", "networkDefineXML", "nwfilterDefineXML", "secretDefineXML",
    "setAutostart", "setValue", "shutdown", "shutdownFlags", "storagePoolDefineXML", "suspend", "undefine",
    "undefineFlags", "updateDeviceFlags", "upload",
}  # fmt: skip

OUR_MODULES = {"storage", "links", "machines", "passphrases", "egress"}
"""Their functions lead to a point further down, as does ``super()``."""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm({})


def _allow(setting: str) -> None:
    arm({"PORTAL_ALLOW_FAULTS": "1", "PORTAL_FAULT": setting})


def test_nothing_is_armed_without_permission() -> None:
    arm({"PORTAL_FAULT": "step.volume:before=raise"})
    fault_point("step.volume:before")


def test_the_named_point_fires_once_at_the_given_hit() -> None:
    _allow("step.volume:before=raise@2")
    fault_point("step.other:before")
    fault_point("step.volume:before")
    with pytest.raises(InjectedFault):
        fault_point("step.volume:before")
    fault_point("step.volume:before")


@pytest.mark.parametrize(("moment", "called"), [("before", False), ("during", True), ("after", True)])
def test_a_call_is_surrounded(moment: str, called: bool) -> None:
    _allow(f"volume.create:{moment}=raise")
    calls = []
    with pytest.raises(InjectedFault), around("volume.create"):
        calls.append(1)
    assert bool(calls) is called


def test_sleep_delays() -> None:
    _allow("volume.create:after=sleep:0.05")
    began = time.monotonic()
    with around("volume.create"):
        pass
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("setting", ["volume.create=kill", "volume.create:before=explode", "x:before=kill@0"])
def test_a_setting_that_cannot_be_read_is_refused(setting: str) -> None:
    """A typing error must not pass for a test that survived its fault."""
    with pytest.raises(ValueError, match="PORTAL_FAULT"):
        _allow(setting)


def test_every_mutating_call_stands_inside_a_registered_point() -> None:
    """Read from the source: a libvirt call that changes something is enclosed in ``around(registered)``."""
    naked: list[str] = []
    used: set[str] = set()
    for path in DRIVER.glob("*.py"):
        if path.name in PROBE_ONLY:
            continue
        for node, enclosing in _walk(ast.parse(path.read_text()), frozenset()):
            used |= enclosing
            name = _method(node)
            if name in MUTATING and not enclosing:
                naked.append(f"{path.name}:{getattr(node, 'lineno', 0)} {name}")
    assert naked == []
    assert used == set(FAULT_POINTS)


def _walk(node: ast.AST, enclosing: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    if isinstance(node, ast.With):
        enclosing = enclosing | {point for item in node.items for point in _points(item.context_expr)}
    if isinstance(node, ast.Call):
        # ``_unless_off(domain, "domain.destroy", lambda: …)`` hands the name on to ``around``.
        enclosing = enclosing | set(_handed_on(node))
    yield node, enclosing
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, enclosing)


def _points(expression: ast.expr) -> list[str]:
    if isinstance(expression, ast.Call) and getattr(expression.func, "id", "") == "around":
        return _constants(expression)
    return []


def _handed_on(call: ast.Call) -> list[str]:
    return _constants(call) if getattr(call.func, "id", "") == "_unless_off" else []


def _constants(call: ast.Call) -> list[str]:
    return [
        each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def _method(node: ast.AST) -> str:
    """The name of the method that ``node`` calls on a libvirt object; "" for anything else."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return ""
    owner = node.func.value
    ours = isinstance(owner, ast.Call) or getattr(owner, "id", "") in OUR_MODULES
    return "" if ours else node.func.attr
