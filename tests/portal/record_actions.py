"""Every action that the code can write, read from the code.

An action that is put together at run time is named in ``COMPOSED``: whoever writes one says here what it can be.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("audit", "tenants", "provisioning", "breakglass", "portal")
VERBS = ("added", "changed", "deleted")
COMPOSED: dict[tuple[str, str], set[str]] = {
    ("audit/admin.py", "f'{name}.{verb}'"): {
        f"{name}.{verb}" for name in ("user", "group", "accessattempt") for verb in VERBS
    }
    | {"user.permissions_changed", "group.permissions_changed"},
    ("portal/recorded_commands.py", "f'command.{verb}'"): {"command.ran", "command.began"},
    ("tenants/services/connectors.py", "f'connector.{verb}'"): {
        "connector.allowed",
        "connector.forbidden",
        "connector.enabled",
        "connector.disabled",
    },
    ("breakglass/services/endings.py", "f'ticket.{after}'"): {
        f"ticket.{state}" for state in ("ended", "expired", "revoked", "rejected", "withdrawn", "timed_out")
    },
    ("provisioning/machine.py", "f'operation.{operation.state}'"): {
        "operation.succeeded",
        "operation.failed",
        "operation.cancelled",
    },
    ("provisioning/rotation.py", "_ACTIONS[state]"): {"key.superseded", "key.switched", "key.retired"},
}


IMPORTED: dict[str, set[tuple[str, str]]] = {}
"""For each file the modules and names that it imports from."""


@dataclass(frozen=True)
class Found:
    """A call, in the file and function where it stands."""

    path: str
    call: ast.Call
    function: ast.FunctionDef | None


def actions() -> set[str]:
    """All of them."""
    calls = list(_calls())
    written = [found for found in calls if _called(found.call) == "record"]
    assert len(written) > 30, "the search lost its way"
    return {
        action for found in written for action in _resolve(found, _argument(found.call, "action", 0), calls)
    }


def _calls() -> Iterator[Found]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name, tree = str(path.relative_to(ROOT)), ast.parse(path.read_text())
            imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            IMPORTED[name] = {(node.module or "", alias.name) for node in imports for alias in node.names}
            yield from _within(name, tree, None)


def _within(path: str, node: ast.AST, function: ast.FunctionDef | None) -> Iterator[Found]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield Found(path, child, function)
        yield from _within(path, child, child if isinstance(child, ast.FunctionDef) else function)


def _called(call: ast.Call) -> str:
    function = call.func
    return (
        function.id
        if isinstance(function, ast.Name)
        else function.attr
        if isinstance(function, ast.Attribute)
        else ""
    )


def _argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return named[0] if named else call.args[position] if position < len(call.args) else None


def _resolve(found: Found, given: ast.expr | None, calls: list[Found]) -> set[str]:
    """The values that an expression can have; through the parameters of the functions that pass it on."""
    if given is None:
        return set()  # some other thing that is called ``record``
    if isinstance(given, ast.Constant):
        return {str(given.value)}
    if isinstance(given, ast.IfExp):
        return _resolve(found, given.body, calls) | _resolve(found, given.orelse, calls)
    composed = COMPOSED.get((found.path, ast.unparse(given)))
    if composed is not None:
        return composed
    position = _parameter(found.function, given)
    assert position is not None, (
        f"{found.path}: say in {Path(__file__).name} what {ast.unparse(given)} can be"
    )
    assert found.function is not None
    assert isinstance(given, ast.Name)
    callers = [one for one in calls if _called(one.call) == found.function.name and _reaches(one, found)]
    assert callers, f"{found.path}: nobody calls {found.function.name}"
    return {
        value for one in callers for value in _resolve(one, _argument(one.call, given.id, position), calls)
    }


def _parameter(function: ast.FunctionDef | None, given: ast.expr) -> int | None:
    """Which parameter it is, counted without ``self``."""
    if function is None or not isinstance(given, ast.Name):
        return None
    names = [arg.arg for arg in (*function.args.args, *function.args.kwonlyargs) if arg.arg != "self"]
    return names.index(given.id) if given.id in names else None


def _reaches(one: Found, found: Found) -> bool:
    """Whether it is this function of that name."""
    assert found.function is not None
    module = found.path.removesuffix(".py").replace("/", ".")
    return one.path == found.path or (module, found.function.name) in IMPORTED[one.path]
