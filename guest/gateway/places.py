"""Where the gateway's parts lie in a guest, and what its process is told in its environment: no secret."""

TREE = "/opt/gateway"
"""Node, the package, and what a native run left for a faster start; read-only."""
NODE = f"{TREE}/bin/node"
ENTRY = f"{TREE}/node_modules/openclaw/openclaw.mjs"
SEED_STATE = f"{TREE}/seed/state"
"""The databases, empty but migrated: the first start's state."""
SEED_CODE = f"{TREE}/seed/code"
"""What V8 made of the modules, by the modules' paths and contents."""
STATE = "/var/lib/portal/gateway"
TEMPORARY = f"{STATE}/temporary"
WORKSPACE = "/var/lib/portal/workspace"
CONFIG_FOLDER = "/run/portal/gateway"
CONFIG = f"{CONFIG_FOLDER}/openclaw.json"
CODE = "/run/portal-gateway/code"
"""Where Node looks for compiled modules, in a folder that is named after the processor."""
SECRET_SOCKET = "/run/portal-agent/secrets"  # noqa: S105 - a path
"""Where the agent answers for secrets while the gateway starts."""
COMMAND = (NODE, ENTRY, "gateway", "run")
USER, GROUP, FILES_GROUP = 991, 991, 993
"""As in ``guest.image.recipe``: the gateway's own, and the group of the workspace."""


def environment(
    heap_mib: int, *, state: str = STATE, config: str = CONFIG, code: str = CODE
) -> dict[str, str]:
    """All that the gateway's process finds in its environment; its tools inherit it."""
    return {
        "HOME": state,
        "TMPDIR": f"{state}/temporary",
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "NODE_OPTIONS": f"--max-old-space-size={heap_mib}",
        "NODE_COMPILE_CACHE": code,
        # With this the launcher takes the folder as it is, and does not start a second process for it.
        "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
        "OPENCLAW_STATE_DIR": state,
        "OPENCLAW_CONFIG_PATH": config,
        "OPENCLAW_CONFIG_READONLY": "1",
        "OPENCLAW_NO_RESPAWN": "1",
        "OPENCLAW_NO_AUTO_UPDATE": "1",
        "OPENCLAW_SKIP_CHANNELS": "1",
        "OPENCLAW_EXEC_SHELL_SNAPSHOT": "0",
        "OPENCLAW_OFFLINE": "1",
    }
