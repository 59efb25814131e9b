"""Gives each process of a parallel test run its own state, fleet and network pool.

Loaded by ``-p tests.lanes``, before Django reads its settings.
"""

import ipaddress
import os
from pathlib import Path

LANE = os.environ.get("PYTEST_XDIST_WORKER", "")

if LANE:
    number = int(LANE.removeprefix("gw"))
    state = Path(os.environ["PORTAL_STATE_DIR"]) / LANE
    for folder in ("db", "test", "volumes"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    state.chmod(0o755)
    (state / "volumes").chmod(0o711)
    pool = ipaddress.ip_network(os.environ["PORTAL_NETWORK_POOL"])
    os.environ |= {
        "PORTAL_STATE_DIR": str(state),
        "PORTAL_POOL_DIR": str(state / "volumes"),
        "PORTAL_FLEET_ID": os.environ["PORTAL_FLEET_ID"] + f"x{number}",
        "PORTAL_NETWORK_POOL": str(list(pool.subnets(prefixlen_diff=3))[number]),
        "REDIS_URL": os.environ["REDIS_URL"].rpartition("/")[0] + f"/{number + 1}",
    }
