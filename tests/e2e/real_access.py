"""What only a real guest can show of an operator's access: who a command is there, and the journal."""

import base64
from typing import Any

from tests.e2e.operators import Operator


def ran(operator: Operator, *argv: str) -> tuple[Any, str]:
    """Exit code and output."""
    body = {"argv": list(argv), "cwd": "", "seconds": 30}
    answer = operator.ask("POST", "/v1/break-glass/exec", json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    return said["exit_code"], base64.b64decode(said["output"]).decode()


def look_inside(operator: Operator) -> None:
    """A command is the tenant's user, in the workspace, and none of ours; the journals have something to say."""
    assert ran(operator, "id", "-un") == (0, "tenant\n")
    assert ran(operator, "pwd") == (0, "/var/lib/portal/workspace\n")
    for path in ("/var/lib/portal/agent", "/run/portal/launcher.sock", "/var/lib/portal/jobs"):
        code, said = ran(operator, "ls", path)
        assert (code != 0, "No such file" in said) == (True, False), (path, said)
    for name in ("agent", "gateway"):
        answer = operator.ask("GET", f"/v1/break-glass/logs/read?name={name}")
        assert answer.status_code == 200, answer.text
        text = base64.b64decode(answer.json()["data"]).decode()
        assert name == "gateway" or "listening on" in text, text
