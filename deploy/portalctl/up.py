"""`make up`: from a bare machine to a demo tenant whose guest answers.

Every stage looks first and does only what is missing.
"""

import os
import re

from deploy.portalctl import (
    assets,
    down,
    egress,
    environments,
    image,
    kernel,
    libvirtd,
    packages,
    proxy,
    redis,
    services,
    users,
    venv,
    walls,
)
from deploy.portalctl import places as places_module
from deploy.portalctl.manage import manage
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import elapsed, progress, say

_SERVICES = ["proxy", "web", "worker", "urgent", "beat", "sequencer"]
# libvirt's simulated driver, inside libvirtd; its state lives only as long as somebody is connected.
_TEST_URI = "test+unix:///default"
_ENGINE = re.compile(r"\bengine\W+(kvm|qemu|test)\b")


def up(places: Places) -> None:
    """Bring everything up."""
    version = prepare(places, "run")
    split = libvirtd.check_split(environments.libvirt_uri(), users.ensure(places))
    redis.ensure(places, environments.redis_url())
    fresh = environments.is_fresh(places)
    environments.write_all(places, split, uri=environments.libvirt_uri())

    if fresh:
        # State that was removed by hand, not by `make clean`, has left its guests in libvirt. Their keys went
        # with it, so nothing is lost; a state that still has its keys is never purged.
        down.purge(places, places.state)
    with_egress = egress.ensure(places, split)
    progress("database", "migrating")
    manage(places, "migrate", "--no-input", "--verbosity", "0")
    manage(places, "demo_people")
    progress("host", "registering this machine (the first time it tries which engine works)")
    engine = engine_of(manage(places, "host_register", "--local", dated=True))
    names = list(_SERVICES)
    if engine == "test":
        environments.write_all(places, split, uri=_TEST_URI)
        names.append("keeper")
    if egress.hand_over(places, split, with_egress, simulated=engine == "test"):
        names.append("egress")
    manage(places, "image_register", str(places.images / version), dated=True)

    proxy.ensure(places, split)
    services.ensure(places, names)
    progress("demo tenant", "waiting until its guest answers over mutual TLS")
    manage(
        places,
        "demo_tenant",
        "--wait",
        dated=True,
        todo="read the worker's log (`make logs`), then `make up` again",
    )
    _finish()


def prepare(places: Places, kind: venv.Kind) -> str:
    """What `make up` and `make test` both need. Answers the guest image's version."""
    os.umask(0o022)  # Other users run what is installed here; the caller's umask must not lock them out.
    places_module.prepare(places)
    packages.ensure(places, ["run"] if kind == "run" else ["run", "test"])
    venv.ensure(places, kind)
    assets.ensure(places)
    venv.give_back(places)
    kernel.ensure()
    walls.ensure()
    kernel.open_kvm()
    libvirtd.ensure(places, environments.libvirt_uri())
    return image.ensure(places)


def engine_of(said: str) -> str:
    """Which engine `host_register` reports: `engine: kvm`, `qemu` or `test`."""
    found = _ENGINE.findall(said)
    return found[-1] if found else "qemu"


def _finish() -> None:
    url = environments.base_url()
    say()
    say(f"The portal is up after {elapsed():.0f} s.")
    say(f"  Portal        {url}/")
    say(f"  Staff pages   {url}/admin/")
    say("  Logs          make logs")
    say("  Stop          make down    (make clean removes every trace)")
