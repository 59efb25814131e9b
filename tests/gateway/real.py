"""The real gateway behind a test's launcher: node from the image's tree, run as this user."""

import json
from collections.abc import Callable
from pathlib import Path

from guest.gateway import places
from guest.image import recipe
from tests.gateway.fake_launcher import Launcher
from tests.gateway.native import tree

PROGRAM = recipe.OVERLAY / "usr/lib/portal/gateway-secret"
HEAP_MIB = 768


def real(launcher: Launcher) -> Callable[[Path], list[str]]:
    """For ``launcher.command``: the agent's configuration as it is, but for places that only a guest has."""
    folder = launcher.folder / "gateway"
    state, workspace, code = folder / "state", folder / "workspace", folder / "code"
    for each in (state / "tmp", workspace, code):
        each.mkdir(parents=True, exist_ok=True)
    resolver = folder / "resolver"
    resolver.write_text(
        f"#!/bin/sh\nPORTAL_SECRET_SOCKET={launcher.secrets} exec /usr/bin/python3 -SEs {PROGRAM}\n"
    )
    resolver.chmod(0o755)

    def command(config: Path) -> list[str]:
        given = json.loads(config.read_text())
        given["agents"]["defaults"]["workspace"] = str(workspace)
        given["logging"]["file"] = str(folder / "own.log")
        for provider in given.get("secrets", {}).get("providers", {}).values():
            provider["command"] = str(resolver)
        config.write_text(json.dumps(given))
        launcher.environment = places.environment(
            HEAP_MIB, state=str(state), config=str(config), code=str(code)
        )
        found = tree()
        entry = found / places.ENTRY.removeprefix(f"{places.TREE}/")
        line = f'exec "$0" "$@" >{folder}/gateway.log 2>&1'
        return ["/bin/sh", "-c", line, str(found / "bin/node"), str(entry), "gateway", "run"]

    return command
