"""The way out as the machine's processes find it: from the papers, through the boot, into the launcher."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guest.image import recipe
from guest.launcher.way_out import WayOut, way_out
from protocol.enrolment import Limits, Personalisation, Trust

OUT = WayOut("10.1.2.1", 3128)
PAPERS = Personalisation(
    runtime_id="r",
    tenant_id="t",
    guest_address="10.1.2.2",
    host_address="10.1.2.1",
    prefix=30,
    agent_port=8443,
    trust=Trust(["PEM"], ["ab" * 32], [], [], 7),
    limits=Limits(512, 512, 2, 20, 1800),
    proxy="10.1.2.1:3128",
)


def default_environment(papers: bytes, folder: Path) -> dict[str, str]:
    """What ``init`` leaves for systemd, by the very lines of the script."""
    script = recipe.INIT_SCRIPT.read_text()
    part = script[script.index("papers=") : script.index("# From here on the kernel")]
    folder.mkdir(exist_ok=True)
    (folder / "papers").write_bytes(papers)
    place = folder / "run"
    part = part.replace("/bin/busybox ", "").replace("/run/", f"{place}/")
    part = re.sub(r"^papers=.*$", f"papers={folder}/papers", part, flags=re.MULTILINE)
    subprocess.run(["/bin/sh", "-eu", "-c", part], check=True, timeout=10)
    written = place / "systemd/system.conf.d/way-out.conf"
    if not written.exists():
        return {}
    section, *lines = written.read_text().splitlines()
    assert section == "[Manager]"
    values = [line.removeprefix("DefaultEnvironment=") for line in lines]
    return dict(pair.split("=", 1) for value in values for pair in value.split())


def test_every_process_is_told(tmp_path: Path) -> None:
    """The boot writes what the launcher gives, so that a process of no unit of ours finds the same."""
    found = default_environment(PAPERS.to_bytes(), tmp_path)
    assert found == OUT.environment
    assert way_out(found) == OUT


def test_without_a_proxy_nobody_is_told(tmp_path: Path) -> None:
    assert default_environment(replace(PAPERS, proxy=None).to_bytes(), tmp_path) == {}
    assert way_out({}) is None


@pytest.mark.parametrize("name", ["runtime_id", "origin", "rp_id", "tenant_id"])
def test_no_other_member_can_pass_for_it(tmp_path: Path, name: str) -> None:
    """Not even one that holds the words: inside a value a quotation mark is escaped."""
    forged: Any = {name: '","prefix":30,"proxy":"10.6.6.6:6666","x":"'}
    papers = replace(PAPERS, **forged)
    assert default_environment(papers.to_bytes(), tmp_path) == OUT.environment
    assert default_environment(replace(papers, proxy=None).to_bytes(), tmp_path / "none") == {}


def test_programs_of_every_kind_read_it() -> None:
    """curl reads http_proxy in small letters only, others the large ones; loopback is asked directly."""
    url = "http://10.1.2.1:3128"
    told = OUT.environment
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        assert (told[name], told[name.lower()]) == (url, url)
    assert told["NO_PROXY"] == told["no_proxy"] == "localhost,127.0.0.1"
    assert told["NODE_USE_ENV_PROXY"] == "1"


@pytest.mark.parametrize(
    "value",
    [
        *("", "10.1.2.1:3128", "https://10.1.2.1:3128", "http://10.1.2.1", "http://10.1.2.1:3128/"),
        *(
            "http://10.1.2.1:0",
            "http://10.1.2.1:65536",
            "http://300.1.2.1:3128",
            "http://10.1.2.1:3128\n",
            "http://a@10.1.2.1:3128",
        ),
        *("http://proxy:3128", "http://10.1.2.1:3128 any", "http://0010.1.2.1:1"),
    ],
)
def test_the_launcher_takes_nothing_else(value: str) -> None:
    """It would open an address to the gateway."""
    assert way_out({"HTTPS_PROXY": value}) is None
