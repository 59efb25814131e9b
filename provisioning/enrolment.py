"""Recognises a fresh guest by its one-time secret and issues its certificate."""

from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings

from protocol import enrolment as messages
from provisioning.addresses import link
from provisioning.fleet_keys import fleet_key, issue_server_certificate, serial
from provisioning.models import FleetKey, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.trust import trust
from tenants.sites import rp_id, tenant_origin


class EnrolmentFailed(Exception):
    """The guest's answer is malformed or not authentic. Carries no secret."""


@dataclass(frozen=True)
class Issued:
    """What came of an enrolment."""

    serial: str
    """Of the certificate, in hex."""
    expires_at: datetime
    sealing_public_key: str
    """X25519, 64 hex digits."""
    issuer: str
    """Serial number of the CA that signed it, in hex."""


def personalisation(runtime: Runtime, secret: bytes | None) -> messages.Personalisation:
    """The guest's papers; ``secret`` is None once it has enrolled."""
    ends = link(runtime.network_index)
    return messages.Personalisation(
        runtime_id=str(runtime.pk),
        tenant_id=str(runtime.tenant_id),
        guest_address=ends.guest_address,
        host_address=ends.host_address,
        prefix=ends.prefix,
        agent_port=settings.AGENT_PORT,
        trust=trust(),
        limits=messages.Limits(
            memory_mib=runtime.memory_mib,
            processes=runtime.processes,
            jobs_running=runtime.jobs_running,
            jobs_waiting=runtime.jobs_waiting,
            gateway_idle_seconds=settings.GATEWAY_IDLE_SECONDS,
        ),
        enrolment_secret=secret.hex() if secret else None,
        proxy=_proxy(runtime, ends.host_address),
        rp_id=rp_id(),
        portal_origin=settings.BASE_URL,
        origin=tenant_origin(runtime.tenant),
        log_vkey=settings.LOG_VKEY,
    )


def _proxy(runtime: Runtime, host_address: str) -> str | None:
    """Where this guest finds its host's egress proxy, if the host has one."""
    if runtime.host is None or not runtime.host.egress_path:
        return None
    return messages.proxy_address(host_address, settings.EGRESS_PORT)


def renew(client: RuntimeClient, runtime: Runtime) -> Issued:
    """Give a guest that runs a new certificate for the key it has.

    Raises:
        EnrolmentFailed: its request is malformed or for another key than it serves.
        AgentUnreachable, AgentRefused: from the client.
    """
    try:
        csr = x509.load_pem_x509_csr(client.request_renewal().encode())
    except ValueError:
        raise EnrolmentFailed("The guest's certificate request is malformed.") from None
    certificate = _issue(runtime, csr)
    client.renew_certificate(certificate.public_bytes(serialization.Encoding.PEM).decode())
    return _issued(certificate, runtime.sealing_public_key)


def enrol(client: RuntimeClient, runtime: Runtime, secret: bytes) -> Issued:
    """Ask for a CSR, check that it is our guest's, and install the certificate.

    Raises:
        EnrolmentFailed: not authentic, or not for this runtime.
        AgentUnreachable, AgentRefused: from the client.
    """
    nonce = token_bytes(messages.NONCE_BYTES)
    answer = client.request_enrolment(nonce.hex())
    try:
        csr = x509.load_pem_x509_csr(str(answer["csr"]).encode())
        sealing = bytes.fromhex(str(answer["sealing_public_key"]))
        given = bytes.fromhex(str(answer["mac"]))
    except (KeyError, ValueError):
        raise EnrolmentFailed("The guest's answer is malformed.") from None
    expected = messages.request_mac(secret, nonce, csr.public_bytes(serialization.Encoding.DER), sealing)
    try:
        messages.check_mac(expected, given)
    except messages.EnrolmentError:
        raise EnrolmentFailed("The guest could not prove the one-time secret.") from None
    certificate = _issue(runtime, csr)
    der = certificate.public_bytes(serialization.Encoding.DER)
    client.install_certificate(
        nonce=nonce.hex(),
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        mac=messages.certificate_mac(secret, nonce, der).hex(),
    )
    return _issued(certificate, sealing.hex())


def _issued(certificate: x509.Certificate, sealing_public_key: str) -> Issued:
    return Issued(
        f"{certificate.serial_number:x}",
        certificate.not_valid_after_utc,
        sealing_public_key,
        serial(fleet_key(FleetKey.Use.CA)),
    )


def _issue(runtime: Runtime, csr: x509.CertificateSigningRequest) -> x509.Certificate:
    if not csr.is_signature_valid or not isinstance(csr.public_key(), ec.EllipticCurvePublicKey):
        raise EnrolmentFailed("The guest's certificate request is not valid.")
    return issue_server_certificate(runtime, csr)
