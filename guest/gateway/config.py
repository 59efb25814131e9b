"""The gateway's configuration, made from few values; what is not asked for stays off."""

import re
from dataclasses import dataclass
from secrets import token_hex
from urllib.parse import SplitResult, urlsplit

from guest.gateway.places import TEMPORARY, WORKSPACE

PORT = 18789
BASE_PATH = "/gateway"
"""Below which its page lies; ``/v1`` and the probes stay at the root."""
RESOLVER_MILLISECONDS = 60_000
LOG_BYTES = 4 << 20
RESOLVER = "/usr/lib/portal/gateway-secret"
APIS = frozenset({"openai-completions", "openai-responses", "anthropic-messages"})
RESERVE_MIB = 384
"""Left to the kernel, the agent and jobs when the gateway may use all the rest."""
LEAST_MIB = 1024
"""Below this a first agent turn does not fit."""
HEAP_SHARE = 0.5

_OWN_HOSTS = frozenset({"127.0.0.1", "localhost"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


class GatewayConfigError(ValueError):
    """A value makes no sense; the message says which and why, and never repeats it."""


@dataclass(frozen=True)
class Headers:
    """Names of the headers by which the gateway knows the agent; new at each start."""

    user: str
    request: str

    @classmethod
    def fresh(cls) -> "Headers":
        return cls(f"x-portal-user-{token_hex(16)}", f"x-portal-request-{token_hex(16)}")


@dataclass(frozen=True)
class Model:
    """Whom the gateway asks. Only an owner sets it: the key goes wherever the base URL points."""

    base_url: str
    name: str
    api: str
    secret: str | None = None
    """The name of the secret that holds the key."""

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise GatewayConfigError(f"the model's api must be one of {', '.join(sorted(APIS))}")
        if not _MODEL.fullmatch(self.name):
            raise GatewayConfigError("the model's name has letters, digits and _.:/- only, 128 at most")
        if self.secret is not None and not _NAME.fullmatch(self.secret):
            raise GatewayConfigError("the secret's name has letters, digits and _.- only, 64 at most")
        parts = _checked_url(self.base_url)
        if self.secret is not None and parts.scheme != "https" and parts.hostname not in _OWN_HOSTS:
            raise GatewayConfigError("a key is sent over https only; change the model's base URL")


@dataclass(frozen=True)
class Settings:
    """All that differs from gateway to gateway."""

    origin: str
    """The runtime's own, in the browser."""
    user: str
    headers: Headers
    model: Model | None = None
    port: int = PORT
    resolver: str = RESOLVER


def render(settings: Settings) -> dict[str, object]:
    """The content of ``openclaw.json``."""
    rendered: dict[str, object] = {
        "gateway": _gateway(settings),
        "update": {"checkOnStart": False},
        "discovery": {"mdns": {"mode": "off"}},
        "browser": {"enabled": False},
        "cron": {"enabled": False},
        "plugins": {"allow": ["device-pair"], "slots": {"memory": "none"}},
        "skills": {"allowBundled": []},
        # Tools can write where these are looked for, and would be inside the gateway at its next start.
        "hooks": {"enabled": False, "internal": {"enabled": False}},
        # The default is /tmp, which is memory here.
        "logging": {"file": f"{TEMPORARY}/gateway.log", "maxFileBytes": LOG_BYTES},
        "agents": {"defaults": {"workspace": WORKSPACE}},
    }
    if settings.model is not None:
        rendered |= _model(settings.model, settings.resolver)
    return rendered


@dataclass(frozen=True)
class Limits:
    """What one gateway may use."""

    memory_mib: int
    heap_mib: int


def limits(guest_mib: int) -> Limits:
    """The gateway's share of a guest's memory.

    Raises:
        GatewayConfigError: the guest is too small to run one.
    """
    memory = guest_mib - RESERVE_MIB
    if memory < LEAST_MIB:
        raise GatewayConfigError(f"agents need a plan with {LEAST_MIB + RESERVE_MIB} MiB of memory or more")
    return Limits(memory, int(memory * HEAP_SHARE))


def _gateway(settings: Settings) -> dict[str, object]:
    if not _NAME.fullmatch(settings.user):
        raise GatewayConfigError("the user's name has letters, digits and _.- only, 64 at most")
    if not 1024 <= settings.port <= 65535:
        raise GatewayConfigError("the port must lie between 1024 and 65535")
    parts = urlsplit(settings.origin)
    if parts.scheme not in {"https", "http"} or f"{parts.scheme}://{parts.netloc}" != settings.origin:
        raise GatewayConfigError("the origin must be a scheme and a host, nothing more")
    return {
        "mode": "local",
        "port": settings.port,
        "bind": "loopback",
        "trustedProxies": ["127.0.0.1"],
        "auth": {
            "mode": "trusted-proxy",
            "trustedProxy": {
                "userHeader": settings.headers.user,
                "requiredHeaders": [settings.headers.request],
                "allowUsers": [settings.user],
                "allowLoopback": True,
            },
        },
        "controlUi": {
            "allowedOrigins": [settings.origin],
            "basePath": BASE_PATH,
            # A browser's own key would need somebody's approval here, for which this release has no rule. The
            # agent in front has checked the member's key; what a page may do is in the header that it sets.
            "dangerouslyDisableDeviceAuth": True,
        },
        "terminal": {"enabled": False},
        "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
    }


def _model(model: Model, resolver: str) -> dict[str, object]:
    provider: dict[str, object] = {
        "baseUrl": model.base_url,
        "api": model.api,
        "models": [{"id": model.name, "name": model.name}],
    }
    rendered: dict[str, object] = {
        "agents": {"defaults": {"workspace": WORKSPACE, "model": {"primary": f"owner/{model.name}"}}},
        "models": {"mode": "replace", "providers": {"owner": provider}},
    }
    if model.secret is not None:
        provider["apiKey"] = {"source": "exec", "provider": "portal", "id": model.secret}
        # The release wants a program that the gateway's user owns; root's, in a read-only system, is safer.
        provider_of_secrets = {
            "source": "exec",
            "command": resolver,
            "allowInsecurePath": True,
            # Its own limit is 5 s, in which an emulated processor hardly starts Python.
            "timeoutMs": RESOLVER_MILLISECONDS,
            "noOutputTimeoutMs": RESOLVER_MILLISECONDS,
        }
        rendered["secrets"] = {"providers": {"portal": provider_of_secrets}}
    return rendered


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, sound = SplitResult("", "", "", "", ""), False
    if not sound or not url.isascii() or any(mark in url for mark in " \"'\\\n\r\t@?#") or len(url) > 512:
        raise GatewayConfigError("the model's base URL must be http(s)://host/path, without user or query")
    return parts
