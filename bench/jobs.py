"""How long a trivial job takes in a real guest, seen by the member who asks for it."""

import time
from statistics import median

from provisioning.models import Host, Runtime
from tests.e2e.members import Member

ROUNDS = 5
OVER = {"succeeded", "failed", "cancelled", "interrupted"}


def measure(runtime: Runtime) -> dict[str, float]:
    """Seconds from asking to the first output, and to the end; the first job apart. Empty if simulated.

    Raises:
        RuntimeError: a job did not succeed.
    """
    if runtime.host is None or runtime.host.engine == Host.Engine.TEST:
        return {}
    member = Member.sign_in(runtime, runtime.host)
    first, *rest = [_one(member) for _ in range(1 + ROUNDS)]
    return {
        "first job: asked → output": first[0],
        "job: asked → output": median(begun for begun, _ in rest),
        "job: asked → end": median(ended for _, ended in rest),
    }


def _one(member: Member) -> tuple[float, float]:
    began = time.perf_counter()
    name = member.post("/v1/jobs", {"kind": "command", "argv": ["echo", "x"]}).json()["id"]
    while not member.ask("GET", f"/v1/jobs/log?id={name}&wait=20").json()["data"]:
        pass
    output = time.perf_counter() - began
    while (state := member.ask("GET", f"/v1/jobs/item?id={name}").json()["state"]) not in OVER:
        time.sleep(0.1)
    if state != "succeeded":
        raise RuntimeError(f"a trivial job {state}")
    return output, time.perf_counter() - began
