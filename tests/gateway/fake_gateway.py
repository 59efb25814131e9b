"""Stands where the gateway stands: ``python -m tests.gateway.fake_gateway CONFIG FACTS [DELAY]``.

It takes the agent's configuration, asks for its secrets as the gateway does, believes only who names the right
user with the required header, and tells in each answer what it was given.
"""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

HOSTILE = {
    "Set-Cookie": "__Host-guest=x; Path=/; Secure",
    "Clear-Site-Data": '"*"',
    "Service-Worker-Allowed": "/",
    "Access-Control-Allow-Origin": "*",
    "Link": "</v1/workspace>; rel=preload",
    "Refresh": "0;url=/v1/session",
    "X-Accel-Redirect": "/.portal/authorize",
    "WWW-Authenticate": "Basic",
    "Strict-Transport-Security": "max-age=1",
    "Cache-Control": "public, max-age=31536000",
    "Content-Security-Policy": "default-src *; report-uri https://evil.example/",
    "Cross-Origin-Opener-Policy": "unsafe-none",
    "Permissions-Policy": "publickey-credentials-get=*",
    "Location": "https://evil.example/",
}


ATTACK = """<!doctype html><title>at work</title><body><script>
// What a gateway gone bad would try on its members' browser. Each line of the answer is what came of it.
const late = () => new Promise((done) => setTimeout(() => done("no answer"), 4000));
const tried = async (deed) => {
  try { return String(await Promise.race([deed(), late()])); } catch (error) { return `no: ${error.name}`; }
};
const read = async (path, more) => (await fetch(path, more)).status;
const opened = (path) => new Promise((done) => {
  const other = window.open(path, "_blank");
  setTimeout(() => {
    if (!other) return done("no: none");
    if (other.closed) return done("no: closed");
    try { other.fetch("/v1/session").then((answer) => done(answer.status), () => done("no: fetch")); }
    catch (error) { done(`no: ${error.name}`); }
  }, 1500);
});
const framed = (path) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.src = path;
  document.body.append(frame);
  setTimeout(() => {
    try { done(frame.contentDocument.body.innerText ? "read" : "no: empty"); } catch { done("no: foreign"); }
  }, 800);
});
const socket = (path) => new Promise((done) => {
  try {
    const made = new WebSocket(`ws://${location.host}${path}`);
    made.onmessage = () => done("message");
    made.onerror = () => done("no: error");
  } catch (error) { done(`no: ${error.name}`); }
});
(async () => {
  const found = {
    own: await tried(() => read("/gateway/x")),
    socket: await tried(() => socket("/gateway/")),
    session: await tried(() => read("/v1/session")),
    end: await tried(() => read("/v1/sessions/end", { method: "POST" })),
    workspace: await tried(() => read("/v1/workspace")),
    redirect: await tried(() => read("/gateway/redirect/?to=/v1/session")),
    elsewhere: await tried(() => read("https://evil.example/", { mode: "no-cors" })),
    worker: await tried(async () => (await navigator.serviceWorker.register("/gateway/worker.js")).scope),
    frame: await tried(() => framed("/")),
    passkey: await tried(async () => typeof (await navigator.credentials.get({ publicKey: {
      challenge: new Uint8Array(32), rpId: "portal.localhost" } }))),
    eval: await tried(() => eval("1 + 1")),
    page: await tried(() => opened("/")),
    answer: await tried(() => opened("/v1/members")),
    portal: await tried(() => opened("/.portal/nothing")),
    proxy: await tried(() => opened(`/${"x".repeat(3000)}`)),
  };
  document.title = JSON.stringify(found);
})();
</script>"""


class Fake:
    def __init__(self, config: dict[str, Any], facts: Path, delay: float) -> None:
        self.config, self.facts, self.delay = config, facts, delay
        proxy = config["gateway"]["auth"]["trustedProxy"]
        self.user, self.required, self.allowed = (
            proxy["userHeader"],
            proxy["requiredHeaders"],
            proxy["allowUsers"],
        )
        self.ready_at = 0.0

    async def secrets(self, names: list[str]) -> dict[str, str]:
        """The SHA-256 of each value that the agent gives now."""
        try:
            reader, writer = await asyncio.open_unix_connection(os.environ["PORTAL_SECRET_SOCKET"])
            writer.write(json.dumps({"ids": names}).encode() + b"\n")
            line = await asyncio.wait_for(reader.read(), 5)
            writer.close()
        except OSError:
            return {}
        values = json.loads(line)["values"] if line else {}
        return {name: hashlib.sha256(value.encode()).hexdigest() for name, value in values.items()}

    def refusal(self, request: web.Request) -> str | None:
        if request.headers.getall(self.user, []) != self.allowed:
            return "wrong user"
        if any(len(request.headers.getall(name, [])) != 1 for name in self.required):
            return "required header missing"
        if len(request.headers.getall("X-Forwarded-For", [])) != 1:
            return "X-Forwarded-For"
        return None if request.headers.get("x-openclaw-scopes") else "no scopes"

    async def readyz(self, request: web.Request) -> web.Response:
        if "X-Forwarded-For" in request.headers:
            return web.json_response({"ready": False}, status=403)
        if asyncio.get_running_loop().time() < self.ready_at:
            return web.Response(text="<html>the page</html>", content_type="text/html")
        return web.json_response({"ready": True, "failing": []})

    async def any(self, request: web.Request) -> web.StreamResponse:
        refusal = self.refusal(request)
        if refusal:
            return web.json_response({"error": refusal}, status=401)
        if request.headers.get("Upgrade") == "websocket":
            return await self.socket(request)
        if request.path == "/gateway/hostile":
            return web.Response(text="<script>1</script>", content_type="text/html", headers=HOSTILE)
        if request.path == "/gateway/attack":
            return web.Response(text=ATTACK, content_type="text/html")
        if request.path == "/gateway/worker.js":
            return web.Response(
                text="self.onfetch = () => {}", content_type="text/javascript", headers=HOSTILE
            )
        if request.path.startswith("/gateway/redirect/"):
            return web.Response(status=302, headers={"Location": request.query["to"]})
        if request.path == "/gateway/own-policy":
            return web.Response(text="x", headers={"Content-Security-Policy": "script-src 'sha256-abc'"})
        if request.path == "/gateway/late-secret":
            return web.json_response(await self.secrets([*request.query.getall("name")]))
        if request.path == "/gateway/silent":
            await asyncio.sleep(60)
        if request.path == "/v1/chat/completions" and b'"stream"' in await request.read():
            return await self.stream(request)
        return web.json_response(
            {
                "headers": [[name.lower(), value] for name, value in request.headers.items()],
                "path": request.raw_path,
                "method": request.method,
                "body": hashlib.sha256(await request.read()).hexdigest(),
            }
        )

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"} | {"Set-Cookie": "a=b"})
        await response.prepare(request)
        for number in range(1000):
            await response.write(b'data: {"choices":[{"delta":{"content":"%d "}}]}\n\n' % number)
            await asyncio.sleep(0.02 if number > 2 else 0)
        scopes = json.dumps({"choices": [{"delta": {"content": request.headers["x-openclaw-scopes"]}}]})
        await response.write(b"data: " + scopes.encode() + b"\n\ndata: [DONE]\n\n")
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=64 << 20)
        await socket.prepare(request)
        shown = [[name.lower(), value] for name, value in request.headers.items()]
        await socket.send_json({"event": "connect.challenge", "headers": shown, "path": request.raw_path})
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.send_bytes(message.data)
            elif message.data == "bye":
                await socket.close(code=4321, message=b"as you wish")
            elif message.data.startswith("large "):
                await socket.send_str("x" * int(message.data[6:]))
            else:
                await socket.send_str(message.data)
        return socket

    async def serve(self) -> None:
        wanted = (
            self.config.get("models", {}).get("providers", {}).get("owner", {}).get("apiKey", {}).get("id")
        )
        found = await self.secrets([wanted]) if wanted else {}
        facts = {
            "secrets": found,
            "others": await self.secrets(["OTHER_KEY", "GITHUB_TOKEN"]),
            "config": self.config,
        }
        self.facts.write_text(json.dumps(facts))
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_route("*", "/{tail:.*}", self.any)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.config["gateway"]["port"]).start()
        self.ready_at = asyncio.get_running_loop().time() + self.delay
        await asyncio.Event().wait()


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(Fake(given, Path(sys.argv[2]), float(sys.argv[3])).serve())
