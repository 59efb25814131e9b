"""docs/audit.md, "What is in a leaf", lists what the code puts there: no more, no less."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction

from audit.context import command
from audit.personal import KINDS
from audit.services import record
from portal.admin import RecordedUserAdmin
from provisioning.members import statement
from tenants.models import Plan

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "audit.md").read_text()
ROOMS = ("portal", "breakglass", "provisioning", "tenants", "audit")
OTHER_ARGUMENTS = {"action", "actor", "target", "tenant_id", "personal"}
HASH = "0" * 64
COMPUTED: dict[tuple[str, str], set[str]] = {
    ("tenants/services/registry.py", "plan_save"): {field.attname for field in Plan._meta.concrete_fields},
    ("audit/admin.py", "_values"): set(RecordedUserAdmin.recorded_values),
    ("audit/admin.py", "save_related"): {
        field.name for model in (User, Group) for field in model._meta.many_to_many
    },
    ("breakglass/pushing.py", "_note"): {"approvers", "terms"},
    ("provisioning/members.py", "_note"): set(
        statement(
            {
                "keyring": None,
                "consents": {"version": 0, "agents": False, "always_on": False},
                "sealing_public_key": HASH,
            }
        )
    ),
}
"""Facts that no dictionary in the source names, by file and function."""


def table(heading: str) -> set[str]:
    """The words in code type in the first cells of the first table below a heading."""
    below = PAGE.split(f"{heading}\n", 1)[1]
    rows = below.split("\n|", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.strip("|").split("|")[0])}


def sources() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [
        name for name in listed.stdout.splitlines() if name.endswith(".py") and "/migrations/" not in name
    ]
    return [ROOT / name for name in names if (ROOT / name).exists()]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def facts(path: Path) -> Iterator[tuple[str, str]]:
    """Function and key of every fact that a module records, itself or through a helper that passes facts on."""
    helpers = _helpers(path)
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            origin = ROOT / (node.module.replace(".", "/") + ".py")
            if origin.exists() and node.module.split(".")[0] in ROOMS:
                helpers |= {alias.name for alias in node.names} & _helpers(origin)
    for function in _functions(path):
        for call in _calls(function, helpers | {"record"}):
            for value in _given(call):
                yield from ((function.name, key) for key in _keys(value, function))


def _given(call: ast.Call) -> Iterator[ast.expr]:
    """The expressions of a call that become facts."""
    if _name(call) == "record":
        yield from (keyword.value for keyword in call.keywords if keyword.arg == "data")
        return
    yield from call.args
    for keyword in call.keywords:
        if keyword.arg in {None, "data"}:
            yield keyword.value
        elif keyword.arg not in OTHER_ARGUMENTS:
            yield ast.Dict([ast.Constant(keyword.arg)], [keyword.value])


@cache
def _helpers(path: Path) -> set[str]:
    """The functions of a module that pass a parameter of theirs on as facts."""
    found = set()
    for function in _functions(path):
        taken = {
            each.arg for each in [*function.args.args, *function.args.kwonlyargs, function.args.kwarg] if each
        }
        for value in (value for call in _calls(function, {"record"}) for value in _given(call)):
            parts = value.values if isinstance(value, ast.Dict) else [value]
            spread = [
                part for key, part in zip(getattr(value, "keys", [None]), parts, strict=True) if key is None
            ]
            if taken & {getattr(part, "id", "") for part in spread}:
                found.add(function.name)
    return found


def _functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]


def _calls(function: ast.FunctionDef, names: set[str]) -> list[ast.Call]:
    return [node for node in ast.walk(function) if isinstance(node, ast.Call) and _name(node) in names]


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _keys(node: ast.expr, function: ast.FunctionDef) -> Iterator[str]:
    match node:
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if key is None:
                    yield from _keys(value, function)
                elif isinstance(key, ast.Constant):
                    yield str(key.value)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _keys(body, function)
            yield from _keys(orelse, function)
        case ast.Name(id=name):
            for assigned in ast.walk(function):
                if isinstance(assigned, ast.Assign) and any(
                    getattr(each, "id", "") == name for each in assigned.targets
                ):
                    yield from _keys(assigned.value, function)


def recorded() -> dict[str, set[str]]:
    """Key → the functions that record it."""
    found: dict[str, set[str]] = {}
    for path in sources():
        where = str(path.relative_to(ROOT))
        for function, key in facts(path):
            found.setdefault(key, set()).add(f"{where}: {function}")
    for (where, name), keys in COMPUTED.items():
        assert any(
            isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree(ROOT / where))
        )
        for key in keys:
            found.setdefault(key, set()).add(f"{where}: {name}")
    return found


def test_every_fact_has_its_row() -> None:
    """A key that the page does not tell of: say there what it holds, and that it names nobody."""
    missing = {
        key: sorted(where) for key, where in recorded().items() if key not in table("### The facts in `data`")
    }
    assert missing == {}


def test_every_row_is_a_fact() -> None:
    """A key that no code records any more has no row."""
    assert table("### The facts in `data`") - recorded().keys() == set()


def test_no_fact_is_what_a_person_wrote() -> None:
    """Reasons, names and addresses of people are never facts: they are personal data, with a commitment."""
    banned = {"reason", "username", "email", "e_mail", "first_name", "last_name", "address", "ip", "password"}
    assert {key: where for key, where in recorded().items() if key in banned} == {}


def test_kinds_of_personal_data() -> None:
    """The page and :data:`audit.personal.KINDS` name the same, in the same words."""
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| (.+) \|$",
            PAGE.split("### Personal data")[1].split("\n## ")[0],
            flags=re.MULTILINE,
        )
    )
    assert rows == KINDS


@pytest.mark.django_db
def test_the_fields_of_an_event() -> None:
    """As an event has them."""
    with transaction.atomic():
        entry = record(action="a.b", actor=command("test"))
    assert table("## What is in a leaf") == json.loads(entry.event).keys()


def test_the_walk_sees_what_is_recorded() -> None:
    """Through a helper, out of a variable, in an added dictionary."""
    found = recorded()
    assert "provisioning/machine.py: _stumble" in found["step"]
    assert "provisioning/rotation.py: _record" in found["use"]
    assert "provisioning/services.py: operation_request" in found["size"]
    assert len(found) > 50
