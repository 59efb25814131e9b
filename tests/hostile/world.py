"""Two tenants' real guests on this machine: a hostile one that is root, and its neighbour."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from audit.context import Actor, command
from provisioning.driver import naming
from provisioning.models import Host, Operation, Runtime
from provisioning.seals import seal
from provisioning.services import runtime_create
from provisioning.specs import runtime_spec
from tenants.models import Membership, Plan, Tenant
from tenants.services import connector_allow, connector_enable, membership_add, plan_save, tenant_create
from tests.e2e.members import Member
from tests.e2e.test_jobs import OVER, Worker
from tests.egress.on_host import HostWorld
from tests.egress.world import KeeperProcess
from tests.hostile.frames import mac
from tests.hostile.where import Where
from tests.provisioning.workers import drain

TESTER = command("test")
BOOT_SECONDS = 400.0
HERE = Path(__file__).parent
WORKSPACE = "/var/lib/portal/workspace"
IOPS = 200


@dataclass
class Guest:
    """One tenant's running machine, and its owner at work in it."""

    runtime: Runtime
    worker: Worker

    @property
    def tap(self) -> str:
        return naming.tap_name(settings.FLEET_ID, self.runtime.network_index)

    @property
    def bridge(self) -> str:
        return naming.bridge_name(settings.FLEET_ID, self.runtime.network_index)

    def put(self, name: str, data: bytes) -> None:
        answer = self.worker.member.ask("PUT", f"/v1/workspace/files?path={quote(name)}", data)
        assert answer.status_code in {200, 201, 204}, answer.text

    def start(self, *argv: str, **more: Any) -> str:
        """A Python program of the workspace as a job; returns the job's name."""
        return self.worker.run("python3", f"{WORKSPACE}/{argv[0]}", *argv[1:], **more)

    def wait(self, job: str, seconds: float = 120) -> str:
        """The output of a job that succeeds in time."""
        found = self.worker.until(job, *OVER, seconds=seconds)
        said = self.worker.output(job).decode(errors="replace")
        assert found["state"] == "succeeded", (found, said)
        return said

    def outlasted(self, job: str, seconds: float) -> str:
        """The output of a job that may take its own machine's agent down with it for a while: its own loss."""
        until = time.monotonic() + seconds
        while True:
            try:
                return self.wait(job, 10)
            except (httpx.HTTPError, KeyError, AssertionError):
                assert time.monotonic() < until, "the attacker's agent does not come back"
                time.sleep(1)

    def answers(self, *argv: str, seconds: float = 120) -> Any:
        """What a program prints as JSON."""
        return json.loads(self.wait(self.start(*argv), seconds).splitlines()[-1])

    def health(self) -> float:
        """Seconds until the agent answers the control plane's question for its health."""
        began = time.monotonic()
        answer = self.worker.member.ask("GET", "/v1/session")
        assert answer.status_code == 200, answer.text
        return time.monotonic() - began


@dataclass
class World:
    """The host, its two tenants, and the small internet behind the host's proxy."""

    host: Host
    internet: HostWorld
    keeper: KeeperProcess
    attacker: Guest
    neighbour: Guest

    @property
    def tap(self) -> str:
        return self.attacker.tap

    @property
    def bridge(self) -> str:
        return self.attacker.bridge

    def send(self, written: list[bytes]) -> None:
        """Let the attacker write these frames to its wire, by a program in it."""
        self.attacker.put("frames", "\n".join(frame.hex() for frame in written).encode())
        said = self.attacker.wait(self.attacker.start("send.py", f"{WORKSPACE}/frames"))
        assert f"sent {len(written)}" in said, said
        assert "not sent" not in said, said

    def where(self) -> Where:
        ours, theirs = runtime_spec(self.attacker.runtime), runtime_spec(self.neighbour.runtime)
        return Where(
            mac=mac(ours.mac),
            address=ours.guest_address,
            host_mac=mac(Path(f"/sys/class/net/{self.attacker.bridge}/address").read_text().strip()),
            host=ours.host_address,
            uplink=uplink(),
            peer_mac=mac(theirs.mac),
            peer=theirs.guest_address,
            peer_host=theirs.host_address,
            agent_port=ours.agent_port,
            proxy_port=ours.egress_port,
        )


def uplink() -> str:
    """An address of this machine that is neither loopback nor a guest's."""
    shown = json.loads(
        subprocess.run(["ip", "-json", "-4", "address"], check=True, capture_output=True, text=True).stdout
    )
    for each in shown:
        if each["ifname"] != "lo" and not each["ifname"].startswith("rt") and each["addr_info"]:
            return str(each["addr_info"][0]["local"])
    return "192.0.2.1"


def real_host(engine: str, keeper: KeeperProcess) -> Host:
    host = Host(
        name="walls",
        egress_path=str(keeper.folder),
        uri=settings.LIBVIRT_URI,
        engine=engine,
        pool_path=str(settings.POOL_DIR),
        vcpus=8,
        memory_mib=16384,
        disk_gib=50,
        build_slots=4,
        probed_at=timezone.now(),
    )
    host.seal = seal(host)
    host.save()
    return host


def plan() -> Plan:
    given = Plan(
        slug="walls", name="Walls", vcpus=1, memory_mib=512, disk_gib=1, iops=IOPS, cost_floor_cents=100
    )
    return plan_save(actor=TESTER, plan=given)


def booted(plan: Plan, host: Host, slug: str) -> Guest:
    """A new tenant's guest from the newest image; its owner has turned GitHub on."""
    tenant: Tenant = tenant_create(actor=TESTER, slug=slug, name=slug.title(), plan=plan, price_cents=5000)
    owner = User.objects.create_user(f"{slug}-owner")
    membership_add(actor=TESTER, tenant=tenant, user=owner, role=Membership.Role.OWNER)
    connector_allow(actor=TESTER, tenant=tenant, connector="github")
    connector_enable(actor=Actor.of(owner), tenant=tenant, connector="github")
    done = drain(runtime_create(actor=TESTER, tenant=tenant), BOOT_SECONDS)
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    runtime = Runtime.objects.get(pk=done.runtime_id)
    return Guest(runtime, Worker(Member.sign_in(runtime, host)))
