"""The pages that the guest itself serves on its own origin. Nothing of them comes from the portal."""

import html
from pathlib import Path

from aiohttp import web

_FOLDER = Path(__file__).parent / "page"
FILES: dict[str, tuple[tuple[str, ...], str]] = {
    "/": (("index.html",), "text/html"),
    "/page.js": (("common.js", "page.js", "grants.js"), "text/javascript"),
    "/jobs.js": (("jobs.js",), "text/javascript"),
    "/gateway.js": (("gateway.js",), "text/javascript"),
    "/witness.js": (("witness.js",), "text/javascript"),
    "/page.css": (("page.css",), "text/css"),
    "/break-glass": (("break-glass.html",), "text/html"),
    "/break-glass.js": (("common.js", "break-glass.js", "break-glass-files.js"), "text/javascript"),
    "/break-glass.css": (("page.css", "break-glass.css"), "text/css"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer of the agent: another tenant's origin is the same site, so each answer says whose it is."""


class Pages:
    """The page's files, read once, with what this guest's browser code must know filled in."""

    def __init__(self, rp_id: str, portal_origin: str) -> None:
        given = {"{{rp_id}}": html.escape(rp_id), "{{portal}}": html.escape(portal_origin)}
        self._files: dict[str, tuple[bytes, str]] = {}
        for path, (names, kind) in FILES.items():
            text = "\n".join((_FOLDER / name).read_text() for name in names)
            for mark, value in given.items():
                text = text.replace(mark, value)
            self._files[path] = (text.encode(), kind)

    async def serve(self, request: web.Request) -> web.Response:
        """One of the files."""
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``. What a handler has set is stricter, and stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
