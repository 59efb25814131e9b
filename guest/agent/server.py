"""The agent as a running server: from keys to an open port, and back down on a signal."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from guest.agent.answers import BODY_LIMIT, PATIENCE, errors_as_json
from guest.agent.breakglass.build import break_glass
from guest.agent.breakglass.exec import FOLDER, Commands
from guest.agent.breakglass.guard import Guard
from guest.agent.certificates import stand_in_certificate
from guest.agent.config import Config
from guest.agent.door import Doors
from guest.agent.enrolment import Enrolment
from guest.agent.gate import LARGER, Gate
from guest.agent.gateway.routes import GatewayRoutes
from guest.agent.jobs.launched import Bounds, Launched
from guest.agent.jobs.records import Kind
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.spoken import Spoken
from guest.agent.jobs.store import Store
from guest.agent.keys import load_or_create_keys
from guest.agent.launcher import Launcher
from guest.agent.ledger import Ledger
from guest.agent.members import Members
from guest.agent.notify import notify
from guest.agent.pages import add_headers
from guest.agent.recovery import Recovery
from guest.agent.routes import Routes
from guest.agent.sessions import Sessions
from guest.agent.status import boot_id
from guest.agent.tls import add_authorities, server_context, use_certificate
from guest.agent.trust import TrustStore
from guest.agent.vault import Vault
from guest.agent.witness import Witness

HANDSHAKE_SECONDS = 10.0
HEAD_LIMIT = 8 * 1024
BACKLOG = 32

_log = logging.getLogger(__name__)


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        FileDamaged, sqlite3.Error, OSError: the data folder or the address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _listening(config) as port:
        _log.info("listening on %s:%d", config.address, port)
        notify("READY=1")
        await stop.wait()
        notify("STOPPING=1")


@asynccontextmanager
async def _listening(config: Config) -> AsyncIterator[int]:
    """Open the port for the time of the block and give its number."""
    keys = load_or_create_keys(config.data)
    vault = Vault(config.data, keys)
    witness = Witness(config.data, config.runtime_id, config.personalisation.log_vkey)
    trust = TrustStore(config.data, config.believed)
    context = server_context(trust.now.authorities)
    enrolment = Enrolment(config, keys, vault, trust, lambda new: use_certificate(context, new, keys.tls))
    served = enrolment.certificate or stand_in_certificate(keys.tls, config.runtime_id)
    use_certificate(context, served, keys.tls)
    doors = Doors(trust, silence=config.patience)

    def changed() -> None:
        add_authorities(context, trust.now.authorities)
        doors.judge_again()

    trust.changed = changed
    gate = _gate(config, trust, doors, witness)
    launcher = Launcher(config.launcher)
    jobs = _jobs(config, gate, launcher)
    gateway = GatewayRoutes(config, gate, launcher, vault.open_secret)
    vault.changed = gateway.gateway.secret_changed
    messages = gateway.messages
    jobs.register(Kind.MESSAGE, Spoken(config.data / "messages", messages.answer, messages.check))
    commands = Commands(
        Launched(launcher, config.jobs, Bounds.of(config.personalisation.limits)), config.data / FOLDER
    )
    routes = Routes(config, enrolment, gate, vault, witness, gateway, jobs, commands)
    runner = await _http(routes, gate, doors, config.patience)
    server = await asyncio.get_running_loop().create_server(
        doors,
        config.address,
        config.port,
        ssl=context,
        ssl_handshake_timeout=HANDSHAKE_SECONDS,
        ssl_shutdown_timeout=1.0,
        backlog=BACKLOG,
    )
    jobs.begin()
    try:
        async with gateway.tended(), gate.guard.access.tended(), commands.tended():
            yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()
        await jobs.close()
        gate.guard.access.close()
        gate.ledger.close()


def _jobs(config: Config, gate: Gate, launcher: Launcher) -> Runner:
    limits, members = config.personalisation.limits, gate.members
    jobs = Runner(
        Store(config.data),
        limits,
        boot_id(),
        suspended=lambda: members.suspended,
        is_member=lambda fingerprint: members.member(fingerprint) is not None,
    )
    jobs.register(Kind.COMMAND, Launched(launcher, config.jobs, Bounds.of(limits)))
    return jobs


def _gate(config: Config, trust: TrustStore, doors: Doors, witness: Witness) -> Gate:
    tenant_id = config.personalisation.tenant_id
    members = Members(config.data, tenant_id, config.site)
    recovery = Recovery(config.data, members, tenant_id, config.site)
    ledger = Ledger(config.data, started=int(time.time()))
    access = break_glass(config, members, recovery, ledger, witness.seed)
    return Gate(
        runtime_id=config.runtime_id,
        tenant_id=tenant_id,
        origin=config.personalisation.origin,
        trust=trust,
        caller=doors.caller,
        ledger=ledger,
        members=members,
        sessions=Sessions(members, config.runtime_id, config.own_site),
        recovery=recovery,
        guard=Guard(access, config.personalisation.origin),
    )


async def _http(routes: Routes, gate: Gate, doors: Doors, patience: float) -> web.AppRunner:
    app = web.Application(
        middlewares=[doors.middleware(), errors_as_json, gate.middleware()],
        client_max_size=max(BODY_LIMIT, *LARGER.values()),
    )
    app[PATIENCE] = patience
    app.on_response_prepare.append(add_headers)
    app.add_routes(routes.routes())
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=1.0,
        max_line_size=HEAD_LIMIT,
        max_field_size=HEAD_LIMIT,
        lingering_time=1.0,
        auto_decompress=False,
    )
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("aiohttp made no server")
    doors.server = runner.server
    return runner
