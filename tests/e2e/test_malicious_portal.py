"""The malicious portal against a guest of the fleet: every key and row of the control plane, and not one byte.

The attempts are those of tests/e2e/malicious_portal.py. Here people have done everything by the portal's own services, and all
that the attacker holds comes out of the portal's database: the fleet's keys, opened with the wrapping key; each set,
naming, term, ticket, approval and rejection. The guest is one that this portal has made and enrolled.
"""

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate
from django.conf import settings
from django.contrib.auth.models import User

from audit.context import command
from breakglass import grants
from breakglass.models import ApproverSetVersion, Rejection, TenantApprovers, TermsVersion, Ticket
from breakglass.selectors import current_set
from breakglass.services.tickets import ticket_end, ticket_reject, ticket_start
from protocol.enrolment import CONTROL_PLANE_URI, PROXY_URI
from protocol.persons import Purpose
from protocol.tickets import Ticket as Form
from protocol.tickets import rejection_document
from provisioning import members, trust
from provisioning.driver import connect
from provisioning.fleet_keys import fleet_key, private_key, token_seed
from provisioning.models import FleetKey, GuestImage, Host, Operation, Runtime
from provisioning.services import operation_request
from provisioning.specs import host_spec, runtime_spec
from tenants.models import KeyringVersion, Tenant
from tenants.sites import tenant_origin
from tests.breakglass.access import Staffed, staffed
from tests.breakglass.staff import Colleague, maker, put_in_force
from tests.e2e.betrayal import OPEN, SECRET, Place, lure, nothing, phished, session, well
from tests.e2e.malicious.operator import Operator
from tests.e2e.malicious.portal import Document, Portal, Way
from tests.e2e.malicious_portal import conspiracy, heard, rampage
from tests.e2e.members import Member
from tests.e2e.test_canary import Search
from tests.guest.fleet import Authority, caller
from tests.protocol.ticketing import a_grant, a_ticket, approved, asked
from tests.provisioning.workers import created, drain

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1200)]
TESTER = command("test")
BOOT_SECONDS = 400.0
HIDDEN = secrets.token_hex(16).encode()
SHOWN = secrets.token_hex(16).encode()


def test_a_fleet_that_turned_simulated(
    simulated_host: Host,
    image: GuestImage,
    tenant: Tenant,
    owner: User,
    make_user: Callable[..., User],
    tmp_path: Path,
) -> None:
    """With the agent as a local process: quick, and wherever libvirt runs."""
    betray(simulated_host, tenant, owner, make_user, tmp_path, links=False)


@pytest.mark.guest
def test_a_fleet_that_turned(
    real_host: Host,
    real_image: GuestImage,
    tenant: Tenant,
    owner: User,
    make_user: Callable[..., User],
    tmp_path: Path,
) -> None:
    """Against a real guest: it cannot read one file (issue 7)."""
    betray(real_host, tenant, owner, make_user, tmp_path, links=True)


def betray(
    host: Host, tenant: Tenant, owner: User, make_user: Callable[..., User], folder: Path, *, links: bool
) -> None:
    """An honest day, then every attempt: alone, with the operator, and after the machine has started anew.

    ``links``: whether this guest runs commands, so that somebody can have put links into the workspace.
    """
    runtime = created(tenant, BOOT_SECONDS)
    people = staffed(tenant, owner, make_user)
    members.apply(runtime.pk)
    fill(Member.sign_in(runtime, host))
    day = Day(people, place_of(runtime, host, folder))
    portal, operator = day.lived(maker(make_user)("cara"), links=links)

    tried = rampage(portal)
    assert [one for one in tried if not one.as_it_must] == []
    assert heard(portal, HIDDEN) == heard(portal, SHOWN) == []
    assert sum(len(one.codes) for one in tried) > 500

    assert [one for one in conspiracy(operator, links=links) if not one.as_it_must] == []
    assert heard(portal, SHOWN)
    assert heard(portal, HIDDEN) == []

    portal.heard.clear()
    restarted(runtime, host, portal)
    assert operator.read(OPEN).code == "session_required"
    assert portal.grant(portal.loot.past).code == "ended"
    assert heard(portal, SHOWN) == heard(portal, HIDDEN) == []
    for marker in (HIDDEN, SHOWN):
        search = Search(marker)
        search.rows()
        assert search.hits == []


def fill(member: Member) -> None:
    """The owner's files: one that will be approved, and one that will not."""
    for path, text in ((OPEN, SHOWN), (SECRET, HIDDEN)):
        assert member.post("/v1/workspace/folders", {"path": path.partition("/")[0]}).status_code == 201
        assert member.ask("PUT", f"/v1/workspace/files?path={path}", text).status_code == 201
    assert member.ask("GET", f"/v1/workspace/files?path={SECRET}").content == HIDDEN


def place_of(runtime: Runtime, host: Host, folder: Path) -> Place:
    with connect(host_spec(host)) as driver:
        address, port = driver.endpoint(runtime_spec(runtime))
    return Place(
        way=Way(address, port, stolen_identities(folder)),
        runtime_id=str(runtime.pk),
        tenant_id=str(runtime.tenant_id),
        portal_origin=settings.BASE_URL,
        guest_origin=tenant_origin(runtime.tenant),
        token_seed=token_seed(),
        route_seed=settings.ROUTE_KEY,
        trust=asdict(trust.trust()),
    )


def stolen_identities(folder: Path) -> dict[str, Any]:
    """Certificates that the fleet's CA key signs for whoever holds it."""
    ca = fleet_key(FleetKey.Use.CA)
    authority = Authority(private_key(ca))
    authority.certificate = load_pem_x509_certificate(ca.certificate.encode())
    names = {
        "control plane": CONTROL_PLANE_URI,
        "proxy": PROXY_URI,
        "made up": "urn:managed-host-portal:root",
    }
    return {
        name: caller(folder, name.replace(" ", "-"), authority, uri=uri).context()
        for name, uri in names.items()
    }


def restarted(runtime: Runtime, host: Host, portal: Portal) -> None:
    """The machine is started anew, and the portal finds it."""
    asked_for = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.RESTART)
    done = drain(asked_for, BOOT_SECONDS)
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    runtime.refresh_from_db()
    with connect(host_spec(host)) as driver:
        portal.way.address, portal.way.port = driver.endpoint(runtime_spec(runtime))


class Day:
    """What people did before the portal turned, by its own services."""

    def __init__(self, people: Staffed, place: Place) -> None:
        self.people, self.place = people, place
        self.portal = Portal(nothing(place), place.way)

    def lived(self, cara: Colleague, *, links: bool) -> tuple[Portal, Operator]:
        """``cara`` becomes the third approver."""
        people, greta = self.people, self.people.greta
        people.terms("owner", "owner")
        people.terms("approvers", "closed")
        put_in_force([people.anna, people.ben, cara], [people.anna, people.ben], 2)
        if links:
            self.link()
        past, _, _ = self.used()
        grants.apply(ticket_end(actor=greta.actor, ticket=past).pk)
        active, overheard, old = self.used()
        _, cookie = session(self.portal, stored(active), greta.authenticator)
        waiting = people.approved(people.asked(scopes=["exec"], paths=[""]))
        half = stored(waiting)
        said = rejection_document(Form.parse(waiting.document))
        no = people.sign(cara, Purpose.REJECTION, said)
        ticket_reject(actor=cara.actor, ticket=waiting, signature=no)
        runtime = Runtime.objects.get()
        loot = replace(
            self.portal.loot,
            trust=asdict(trust.trust()),
            keyring=signed(KeyringVersion.objects.get()),
            approvers=sets(runtime),
            terms=[signed(row) for row in TermsVersion.objects.order_by("version")],
            past=stored(past),
            active=stored(active),
            waiting=half,
            lapsed=self.by_hand(asked_at=int(time.time()) - 7200, wait_until=int(time.time()) - 3600),
            elsewhere=self.by_hand(tenant_id=str(uuid.uuid4()), runtime_id=str(uuid.uuid4())),
            rejection=Rejection.objects.get().signature,
            phished=phished(self.place, half["document"], cara.authenticator),
            overheard=overheard,
            lure=lure(self.place, greta.authenticator),
            cookie=old,
        )
        portal = Portal(loot, self.place.way)
        return portal, Operator(portal, cookie)

    def used(self) -> tuple[Ticket, Document, str]:
        """A ticket that was approved, started, delivered, and whose requester has signed in."""
        asked_for = self.people.asked(scopes=["workspace:read"], paths=["open"])
        ticket = self.delivered(self.people.approved(asked_for))
        return ticket, *session(self.portal, stored(ticket), self.people.greta.authenticator)

    def delivered(self, ticket: Ticket) -> Ticket:
        """Started, and open in the guest."""
        ticket_start(actor=self.people.greta.actor, ticket=ticket)
        grants.apply(ticket.pk)
        ticket.refresh_from_db()
        assert ticket.delivered_at is not None, ticket.delivery_refused
        return ticket

    def link(self) -> None:
        """Two approvers let the operator run commands, which put links from what is open to what is not."""
        people = self.people
        asked_for = people.asked(scopes=["exec"], paths=[""])
        ticket = self.delivered(people.approved(asked_for, people.anna, people.ben))
        _, cookie = session(self.portal, stored(ticket), people.greta.authenticator)
        for target, name in ((f"../{SECRET}", "link"), ("../closed", "link-to-folder")):
            body = {"argv": ["ln", "-s", target, f"open/{name}"], "cwd": "", "seconds": 20}
            route = "/v1/break-glass/exec"
            answer = well(self.portal.ask_under(stored(ticket), "POST", route, body, cookie))
            assert answer.document["exit_code"] == 0, answer.document
        grants.apply(ticket_end(actor=people.greta.actor, ticket=ticket).pk)

    def by_hand(self, **changed: Any) -> Document:
        """A grant that the portal's services would not make any more."""
        greta, current = self.people.greta, current_set()
        assert current is not None
        requester = {"person": f"user:{greta.user.pk}", "name": "Greta"}
        requester["key"] = greta.authenticator.key.public_key.hex()
        usual: dict[str, Any] = {"tenant_id": self.place.tenant_id, "runtime_id": self.place.runtime_id}
        usual |= {"requester": requester, "scopes": ["workspace:read"], "paths": ["open"]}
        document = a_ticket(set=current.document, **{**usual, **changed})
        origin = self.place.portal_origin
        request = asked(document, greta.authenticator, origin=origin)
        approval = approved(document, self.people.anna.authenticator, origin=origin)
        return a_grant(document, request=request, approvals=[approval])


def stored(ticket: Ticket) -> Document:
    """The grant as the rows have it."""
    return grants.grant_of(ticket).to_document()


def signed(row: Any) -> Document:
    return {"document": row.document, "signature": row.signature}


def sets(runtime: Runtime) -> list[Document]:
    """Every set with what a guest believes it by: the owner's naming, later the quorum before it."""
    named = TenantApprovers.objects.filter(tenant=runtime.tenant_id).order_by("pk")[0]
    rows = ApproverSetVersion.objects.filter(version__gte=named.set.version).order_by("version")
    return [
        {
            "document": row.document,
            "signatures": [named.signature] if row.pk == named.set_id else row.signatures,
        }
        for row in rows
    ]
