"""What a request presents beside its words: one bearer token, cookies, and the page that it came from."""

from aiohttp import web

from protocol.tokens import TokenError


def bearer(request: web.Request) -> str:
    """The one token. Raises TokenError: ``token_missing``."""
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer" or not text or len(request.headers.getall("Authorization")) != 1:
        raise TokenError("token_missing")
    return text


def cookies_named(request: web.Request, name: str) -> list[str]:
    """The values of every such cookie that came; more than one is for the caller to refuse."""
    pairs = [part.strip() for line in request.headers.getall("Cookie", []) for part in line.split(";")]
    return [pair.partition("=")[2] for pair in pairs if pair.startswith(f"{name}=")]


def is_own_page(request: web.Request, origin: str) -> bool:
    """Whether a page of ``origin``, this guest's own, asks; or, for reading, the browser's address line.

    A cookie comes with whatever page asks; SameSite stops none of another tenant's, a sibling's.
    """
    site = request.headers.get("Sec-Fetch-Site", "")
    if "Upgrade" in request.headers:
        # Browsers name the origin of the page with every such request, but not all say the site.
        return site in {"same-origin", ""} and request.headers.get("Origin") == origin
    if request.method == "GET":
        return site in {"same-origin", "none"}
    return site == "same-origin" and request.headers.get("Origin") == origin
