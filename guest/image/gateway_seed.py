"""``python -m guest.image.gateway_seed TREE CELL``: one whole run, so that a guest's first starts faster.

To be started in name spaces of its own (see ``gateway_tree``). The gateway sees the same paths as in a guest
and nothing else of this machine. Of its state only empty databases are kept: no key, no session, no identity
that all guests would share. Prints seconds for each stage, as JSON.
"""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import aiohttp
from aiohttp import web

from guest.gateway import places, rehearsal
from guest.gateway.config import BASE_PATH, PORT, Headers, Model, Settings, render
from guest.image.tools import BuildError, run

ORIGIN = "https://runtime.invalid"
READY_SECONDS = 120.0
TURN_SECONDS = 60.0
HEAP_MIB = 1024
SHARED = ("usr", "bin", "lib", "lib64")
KEPT_TABLE = "schema_meta"
"""Says which migrations were made; every other table is emptied."""
DATABASE = "state/openclaw.sqlite"
_HEADERS = Headers("x-portal-user", "x-portal-request")
_SCOPES = "operator.read,operator.write"


def asked_as(headers: Headers, user: str = "tenant", scopes: str = _SCOPES) -> dict[str, str]:
    """What the agent in front sends with each request."""
    return {
        headers.user: user,
        headers.request: "1",
        "X-Forwarded-For": "203.0.113.5",
        "x-openclaw-scopes": scopes,
    }


def model() -> Model:
    """The stand-in on its usual port."""
    return Model(f"http://127.0.0.1:{rehearsal.PORT}/v1", rehearsal.NAME, "openai-completions")


def seed(tree: Path, cell: Path) -> dict[str, float]:
    """Run the gateway on ``tree`` and leave ``tree/seed``; returns seconds for each stage.

    Args:
        cell: an empty folder to mount its root on. What is mounted goes with this process's name space, and
            must not be deleted by a path: this machine's own folders are among it.
    """
    _furnish(cell, tree)
    stages = asyncio.run(_scene(cell))
    _keep(cell, tree)
    return stages


def _furnish(cell: Path, tree: Path) -> None:
    """A root folder as the gateway finds it in a guest."""
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "cell", cell])
    for folder in (*SHARED, "proc", "dev", "etc", "tmp", "run/portal/gateway", "run/portal-gateway/code"):
        (cell / folder).mkdir(parents=True)
    for folder in SHARED:
        run(["mount", "--bind", f"/{folder}", cell / folder])
        run(["mount", "-o", "remount,bind,ro", cell / folder])
    run(["mount", "-t", "proc", "proc", cell / "proc"])
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "dev", cell / "dev"])
    for device in ("null", "zero", "urandom", "random"):
        (cell / "dev" / device).touch()
        run(["mount", "--bind", f"/dev/{device}", cell / "dev" / device])
    (cell / "tmp").chmod(0o1777)
    (cell / "etc/passwd").write_text(f"gateway:x:{places.USER}:{places.GROUP}:Gateway:/nonexistent:/bin/sh\n")
    (cell / "etc/hosts").write_text("127.0.0.1 localhost runtime\n")
    _in(cell, places.TREE).mkdir(parents=True)
    run(["mount", "--bind", tree, _in(cell, places.TREE)])
    for folder, group in ((places.TEMPORARY, places.GROUP), (places.WORKSPACE, places.FILES_GROUP)):
        _in(cell, folder).mkdir(parents=True)
        os.chown(_in(cell, folder), places.USER, group)
    for folder in (places.STATE, places.CODE):
        os.chown(_in(cell, folder), places.USER, places.GROUP)
    settings = Settings(ORIGIN, "tenant", _HEADERS, model())
    _in(cell, places.CONFIG).write_text(json.dumps(render(settings)))
    run(["hostname", "runtime"])
    run(["ip", "link", "set", "lo", "up"])


def _in(cell: Path, path: str) -> Path:
    return cell / path.lstrip("/")


async def _scene(cell: Path) -> dict[str, float]:
    runner = web.AppRunner(rehearsal.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", rehearsal.PORT).start()
    stages: dict[str, float] = {}
    try:
        # The second run finds what the first has compiled, and compiles what only then is loaded.
        for number in ("first", "second"):
            for stage, seconds in (await _run(cell)).items():
                stages[f"{number}_{stage}"] = round(seconds, 1)
    finally:
        await runner.cleanup()
    return stages


async def _run(cell: Path) -> dict[str, float]:
    began = time.monotonic()
    log = cell / "gateway.log"
    with log.open("wb") as output:
        gateway = subprocess.Popen(
            places.COMMAND,
            env=places.environment(HEAP_MIB),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _become_the_gateway(cell),
        )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}") as session:
            await _until_ready(session, gateway)
            ready = time.monotonic()
            await _turn(session)
            turned = time.monotonic()
    except (TimeoutError, aiohttp.ClientError, BuildError) as failure:
        gateway.kill()
        raise BuildError(f"the gateway does not work: {failure!r}\n{_last_words(log)}") from None
    gateway.terminate()
    # Node writes what it has compiled when it ends by itself.
    status = await asyncio.to_thread(gateway.wait, 60)
    if status != 0:
        raise BuildError(f"the gateway ended with status {status}\n{_last_words(log)}")
    return {"ready": ready - began, "turn": turned - ready}


def _become_the_gateway(cell: Path) -> None:
    os.chroot(cell)
    os.chdir(places.WORKSPACE)
    os.setgroups([places.FILES_GROUP])
    os.setgid(places.GROUP)
    os.setuid(places.USER)
    os.umask(0o007)


async def _until_ready(session: aiohttp.ClientSession, gateway: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(READY_SECONDS):
        while gateway.poll() is None:
            try:
                async with session.get("/readyz") as answer:
                    if (await answer.json(content_type=None)).get("ready") is True:
                        return
            except (aiohttp.ClientError, ValueError, AttributeError):
                pass
            await asyncio.sleep(0.1)
    raise BuildError(f"it ended with status {gateway.poll()}")


async def _turn(session: aiohttp.ClientSession) -> None:
    """One turn of an agent with a tool, the page, and a WebSocket: what a guest's gateway is asked first."""
    asked = {"model": "openclaw", "messages": [{"role": "user", "content": "run: echo $((6 * 7))"}]}
    headers = asked_as(_HEADERS)
    async with asyncio.timeout(TURN_SECONDS):
        async with session.post("/v1/chat/completions", json=asked, headers=headers) as answer:
            said = await answer.text()
        if answer.status != 200 or "42" not in said:
            raise BuildError(f"the agent's turn failed with status {answer.status}: {said[:200]}")
        async with session.get(f"{BASE_PATH}/", headers=headers) as page:
            if page.status != 200 or "text/html" not in page.headers.get("Content-Type", ""):
                raise BuildError(f"the gateway's page answers {page.status}")
            await page.read()
        async with session.ws_connect("/", headers={**headers, "Origin": ORIGIN}) as socket:
            await socket.receive(10)


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-1200:].strip()


def _keep(cell: Path, tree: Path) -> None:
    """The compiled modules, and of the state the databases' empty tables."""
    folder = tree / "seed"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state/state").mkdir(parents=True)
    compiled = [path for path in _in(cell, places.CODE).iterdir() if path.is_dir()]
    if len(compiled) != 1:
        raise BuildError(f"expected one folder of compiled modules, found {len(compiled)}")
    # Named after this machine's processor; the guest gives it the name that its own calls for.
    shutil.copytree(compiled[0], folder / "code")
    emptied(_in(cell, places.STATE) / DATABASE, folder / "state" / DATABASE)


def emptied(source: Path, target: Path) -> None:
    """Write the database's tables without what is in them, all but the note of migrations made."""
    shutil.copyfile(source, target)
    with closing(sqlite3.connect(target, isolation_level=None)) as database:
        names = database.execute(
            "select name from sqlite_master where type = 'table' and sql not like '%virtual%'"
        )
        for (name,) in names.fetchall():
            if name != KEPT_TABLE:
                database.execute(f'delete from "{name}"')  # noqa: S608 - names of its own tables
        database.execute("pragma journal_mode = delete")
        database.execute("vacuum")


def main() -> int:
    """Returns the exit status."""
    try:
        stages = seed(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
    except BuildError as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    sys.stdout.write(json.dumps(stages) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
