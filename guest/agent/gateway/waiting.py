"""What a browser sees at the gateway's address while the gateway does not run. It has no script."""

import html

from aiohttp import web

from guest.agent.gateway.lifecycle import State

AGAIN = "again"
"""In the query: the browser comes back by itself, and starts nothing."""
SECONDS = 3
_WORDS = {
    State.OFF: "The gateway is off.",
    State.STARTING: "The gateway is starting. This page opens it when it is ready.",
    State.READY: "The gateway is not reached now.",
    State.STOPPING: "The gateway is stopping.",
    State.FAILED: "The gateway did not start, or has ended.",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Gateway</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/page.css">{refresh}
</head>
<body>
  <header><span class="brand">Gateway</span> <a href="/">Back to the machine's page</a></header>
  <main>
    <section class="card">
      <h1>{words}</h1>
      <p>{reason}</p>
      {deed}
    </section>
  </main>
</body>
</html>
"""


def page(state: State, reason: str) -> web.Response:
    """The page for ``state``; asked for again by the browser while that makes sense."""
    waits = state is State.STARTING
    refresh = f'\n  <meta http-equiv="refresh" content="{SECONDS};url=/gateway/?{AGAIN}">' if waits else ""
    deed = "" if waits else '<p><a class="button" href="/gateway/">Try again</a></p>'
    text = _PAGE.format(refresh=refresh, words=_WORDS[state], reason=html.escape(reason), deed=deed)
    return web.Response(
        text=text, status=503, content_type="text/html", headers={"Retry-After": str(SECONDS)}
    )
