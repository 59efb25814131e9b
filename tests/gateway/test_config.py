"""The gateway's configuration: whatever is put in, the doors that must be shut are shut."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.gateway.config import (
    APIS,
    LEAST_MIB,
    RESERVE_MIB,
    GatewayConfigError,
    Headers,
    Model,
    Settings,
    limits,
    render,
)
from guest.image import recipe

NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,20}\Z")
MODELS = st.builds(
    Model,
    base_url=st.from_regex(r"\Ahttps://[a-z]{1,9}\.test(:[1-9][0-9]{1,3})?/[a-z0-9/]{0,9}\Z"),
    name=NAMES,
    api=st.sampled_from(sorted(APIS)),
    secret=st.none() | NAMES,
)
SETTINGS = st.builds(
    Settings,
    origin=st.from_regex(r"\Ahttps://[a-z]{1,9}\.test\Z"),
    user=NAMES,
    headers=st.builds(Headers.fresh),
    model=st.none() | MODELS,
    port=st.integers(1024, 65535),
)
LOCK = recipe.REPOSITORY / "guest/image/gateway/package-lock.json"


@given(SETTINGS)
def test_doors_that_are_always_shut(settings: Settings) -> None:
    """Loopback only, one user, no password or token, nothing that runs or calls out by itself."""
    rendered = json.loads(json.dumps(render(settings)))
    gateway = rendered["gateway"]
    assert gateway["bind"] == "loopback"
    assert gateway["auth"].keys() == {"mode", "trustedProxy"}
    assert gateway["auth"]["mode"] == "trusted-proxy"
    assert gateway["auth"]["trustedProxy"]["allowUsers"] == [settings.user]
    assert gateway["auth"]["trustedProxy"]["requiredHeaders"] == [settings.headers.request]
    assert gateway["trustedProxies"] == ["127.0.0.1"]
    assert gateway["controlUi"]["allowedOrigins"] == [settings.origin]
    assert gateway["controlUi"]["basePath"] == "/gateway"
    assert rendered["hooks"] == {"enabled": False, "internal": {"enabled": False}}
    assert gateway["terminal"]["enabled"] is False
    assert [rendered[part]["enabled"] for part in ("browser", "cron")] == [False, False]
    assert rendered["discovery"]["mdns"]["mode"] == "off"
    assert rendered["update"]["checkOnStart"] is False
    assert "channels" not in rendered
    assert rendered["plugins"]["allow"] == ["device-pair"]


@given(SETTINGS)
def test_a_key_is_only_ever_a_reference(settings: Settings) -> None:
    """The key is asked for by name, through the resolver; nothing else in the file could be one."""
    rendered = render(settings)
    has_secret = settings.model is not None and settings.model.secret is not None
    assert ("secrets" in rendered) == has_secret
    if settings.model is not None and has_secret:
        providers = json.loads(json.dumps(rendered))["models"]["providers"]
        reference = {"source": "exec", "provider": "portal", "id": settings.model.secret}
        assert providers["owner"]["apiKey"] == reference


def test_headers_differ_from_start_to_start() -> None:
    first, second = Headers.fresh(), Headers.fresh()
    assert first.user != second.user
    assert first.request != second.request


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.test/", "https://", "https://u:p@a.test/", "https://a.test/?k=1", "https://a.test/#a", 'https://a"/',
     "https://a.test:99999/", "file:///etc/passwd", "https://ä.test/", "https://a.test/\n"],
)  # fmt: skip
def test_base_urls_that_are_refused(url: str) -> None:
    with pytest.raises(GatewayConfigError) as refused:
        Model(url, "m", "openai-completions")
    assert not url or url not in str(refused.value)


@pytest.mark.parametrize("host", ["a.test", "10.0.0.1", "127.0.0.1.a.test", "localhost.a.test", "[::1]"])
def test_a_key_travels_encrypted(host: str) -> None:
    """What stands between the machine and the model would read it. A model on this machine has nobody between."""
    with pytest.raises(GatewayConfigError, match="https only"):
        Model(f"http://{host}/v1", "m", "openai-completions", "KEY")
    assert Model(f"http://{host}/v1", "m", "openai-completions").secret is None
    assert Model(f"https://{host}/v1", "m", "openai-completions", "KEY").secret == "KEY"
    assert Model("http://127.0.0.1:18790/v1", "m", "openai-completions", "KEY").secret == "KEY"


@pytest.mark.parametrize("origin", ["", "a.test", "https://a.test/", "https://a.test/x", "ftp://a.test", "*"])
def test_origins_that_are_refused(origin: str) -> None:
    with pytest.raises(GatewayConfigError):
        render(Settings(origin, "tenant", Headers.fresh()))


@given(st.integers(0, 1 << 20))
def test_limits_leave_the_reserve(guest_mib: int) -> None:
    if guest_mib < LEAST_MIB + RESERVE_MIB:
        with pytest.raises(GatewayConfigError):
            limits(guest_mib)
    else:
        found = limits(guest_mib)
        assert found.memory_mib + RESERVE_MIB == guest_mib
        assert 0 < found.heap_mib < found.memory_mib


def test_lock_names_no_host_and_pins_all() -> None:
    """Every package has a digest, and none says where to fetch it."""
    lock = json.loads(LOCK.read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not re.search(r'"resolved"|https?://(?!registry\.npmjs\.org)[^"]*\.tgz', LOCK.read_text())
    wanted = json.loads(Path(LOCK.parent / "package.json").read_text())["dependencies"]
    assert {packages[f"node_modules/{name}"]["version"] for name in wanted} == set(wanted.values())
