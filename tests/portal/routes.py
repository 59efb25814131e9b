"""Every URL that the portal answers, read from its own URL configuration, with objects to fill it in.

A route with a parameter that this file does not know is an error: whoever adds one says here what it names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.urls import URLPattern, URLResolver, get_resolver

from audit.models import Dispute, Entry, Witness, WitnessRefusal
from breakglass.models import Mismatch, SetProposal, Ticket
from provisioning.models import DriftFinding, EgressRecord, Operation, Runtime
from tenants.models import (
    ConnectorSecret,
    ConsentVersion,
    KeyringVersion,
    MemberKey,
    Tenant,
    TenantConnector,
    TenantKey,
)
from tests.portal.conftest import NOWHERE, Place

SCOPED: dict[type[Model], str] = {
    Tenant: "tenant",
    Runtime: "runtime",
    Operation: "operation",
    Entry: "entry",
    MemberKey: "key",
    KeyringVersion: "keyring",
    ConsentVersion: "consents",
    TenantKey: "tenant_key",
    ConnectorSecret: "secret",
    TenantConnector: "connector",
    DriftFinding: "drift",
    EgressRecord: "egress_record",
    Witness: "witness",
    WitnessRefusal: "refusal",
    Dispute: "dispute",
    Ticket: "ticket",
    Mismatch: "mismatch",
}
"""Models whose rows belong to one tenant."""


IN_THE_LOG = {
    "tenant-record-receipt",
    "tenant-record-download",
    "api-record-receipt",
    "api-record-checkpoint",
    "api-record-consistency",
}
"""Routes that have an answer only once the sequencer has signed."""


OF_NO_TENANT = {"break-glass-key-retire", "break-glass-set-sign", "break-glass-set-withdraw"}
"""Routes of rows that belong to the staff as a whole."""


def body(response: Any) -> bytes:
    """All of an answer, also of one that is sent piece by piece."""
    return b"".join(response.streaming_content) if response.streaming else bytes(response.content)


@dataclass(frozen=True)
class Route:
    """One pattern: its full path with converters, and its name with namespaces."""

    path: str
    name: str

    @property
    def model(self) -> type[Model] | None:
        """The admin's model, by the name that Django gives its routes."""
        for model in admin.site._registry:
            if self.name.startswith(f"admin:{model._meta.app_label}_{model._meta.model_name}_"):
                return model
        return None

    @property
    def is_staffs(self) -> bool:
        """Whether only staff get as far as the page."""
        return self.path.startswith(("/admin/", "/break-glass/"))

    @property
    def is_object(self) -> bool:
        """Whether the URL names a row."""
        return "<" in self.path and "(?P" not in self.path

    @property
    def is_scoped(self) -> bool:
        """Whether the row belongs to one tenant."""
        if self.name == "log-tile":  # hashes, which say nothing about anybody
            return False
        if self.name in OF_NO_TENANT:
            return False
        return self.is_object and (not self.name.startswith("admin:") or self.model in SCOPED)

    def url(self, place: Place) -> str:
        """The URL of the row that belongs to ``place``; of any row, where rows belong to nobody."""
        entry = _row(Entry, place) if "<int:entry>" in self.path else 0
        return self.fill(
            self._identifier(place), place.key.fingerprint, place.secret.name, entry, place.ticket.pk
        )

    def missing(self) -> str:
        """The URL of a row that does not exist."""
        return self.fill("nobody" if "<slug:" in self.path else NOWHERE)

    def fill(
        self,
        value: object,
        fingerprint: str = "0" * 64,
        named: str = "NOBODYS",
        entry: object = 0,
        ticket: object = NOWHERE,
    ) -> str:
        """The URL with ``value`` in the place of its parameter, a key's or secret's where it names one."""
        if self.name == "admin:app_list":
            return f"/admin/{value}/"
        if self.name == "log-tile":
            return "/log/tile/0/000.p/1"
        if "(?P<url>" in self.path:
            return "/admin/no-such-page"
        before, _, rest = self.path.partition("<")
        after = rest.partition(">")[2].replace("<slug:fingerprint>", fingerprint)
        after = after.replace("<slug:name>", named).replace("<slug:connector>", "github")
        after = after.replace("<int:entry>", str(entry))
        after = after.replace("<uuid:ticket>", str(ticket))
        return before + (f"{value}{after}" if rest else "")

    def _identifier(self, place: Place) -> object:
        if self.name in OF_NO_TENANT:
            proposed = SetProposal.objects.values_list("pk", flat=True).first() or 0
            return place.ticket.passkey_id if "<int:key>" in self.path else proposed
        if "<slug:slug>" in self.path:
            return place.tenant.slug
        if self.path.startswith("/break-glass/<uuid:ticket>/"):
            return place.ticket.pk
        if self.name in {"api-runtime", "api-runtime-operations"}:
            return place.runtime.pk
        if self.name == "api-operation":
            return place.operation.pk
        if self.model is not None and self.is_object:
            return _row(self.model, place)
        if self.name == "log-tile":
            return ""
        if self.name == "admin:app_list":
            return "provisioning"
        assert not self.is_object, f"{self.path}: say in tests/portal/routes.py what this parameter names"
        return ""


def _row(model: type[Model], place: Place) -> object:
    if model is Entry:
        return Entry.objects.filter(tenant_id=place.tenant.pk).values_list("pk", flat=True)[0]
    if model in SCOPED:
        return getattr(place, SCOPED[model]).pk
    row = model._default_manager.first()
    return row.pk if row is not None else 1


def routes() -> list[Route]:
    """Every route that can be asked for, once, in the order of the URL configuration."""
    walked = list(_walk(get_resolver(), "/", ""))
    # Two parameters, and never an answer: test_access.py has a test of its own for it.
    found = [route for route in walked if route.name != "admin:view_on_site"]
    assert len(found) > 40, "the walk lost its way"
    return found


def _walk(resolver: URLResolver, prefix: str, namespace: str) -> Iterator[Route]:
    for pattern in resolver.url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(
                pattern, path, f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            )
        elif isinstance(pattern, URLPattern) and not _is_old_redirect(pattern):
            yield Route(path, f"{namespace}{pattern.name or 'unnamed'}")


def _is_old_redirect(pattern: URLPattern) -> bool:
    """Django's ``<path:object_id>/`` only redirects to ``…/change/``."""
    return pattern.name is None and str(pattern.pattern) == "<path:object_id>/"
