"""Enrolment, the guest's side: a secret is good for one certificate; a retry never locks the guest out."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from guest.agent.certificates import CertificateRefused, check_issued, names_of
from guest.agent.config import Config
from guest.agent.files import FileDamaged, read_optional, write_atomically
from guest.agent.keys import Keys, signing_request
from guest.agent.trust import TrustStore
from guest.agent.vault import Vault
from protocol.canonical import canonical
from protocol.enrolment import EnrolmentError, certificate_mac, check_mac, request_mac, runtime_dns_name

STATE_FILE = "enrolment.json"


class EnrolmentRefused(Exception):
    """An enrolment call that must not succeed. ``code`` is for machines, the message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class StateFileError(FileDamaged):
    """The enrolment record is damaged. The agent stops: without it a spent secret would work again."""


@dataclass(frozen=True)
class Record:
    """What is remembered on the data volume. One file, so that both change in the same instant."""

    certificate: x509.Certificate | None = None
    spent: tuple[str, ...] = ()
    """SHA-256 of each secret that has been used, hexadecimal, oldest first."""

    def to_bytes(self) -> bytes:
        pem = self.certificate.public_bytes(Encoding.PEM).decode() if self.certificate else None
        return canonical({"version": 1, "certificate": pem, "spent": list(self.spent)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Raises StateFileError if ``data`` is no record."""
        try:
            document: dict[str, Any] = json.loads(data)
            if document["version"] != 1:
                raise StateFileError(f"{STATE_FILE} is of an unknown version")
            pem: str | None = document["certificate"]
            certificate = x509.load_pem_x509_certificate(pem.encode()) if pem else None
            return cls(certificate, tuple(map(str, document["spent"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StateFileError(f"{STATE_FILE} is damaged") from None


@dataclass
class Enrolment:
    """The guest's enrolment. ``on_certificate`` puts a new certificate into use."""

    config: Config
    keys: Keys
    vault: Vault
    trust: TrustStore
    on_certificate: Callable[[x509.Certificate], None]
    _record: Record = field(init=False)
    _nonce: bytes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        stored = read_optional(self._path)
        self._record = Record() if stored is None else Record.from_bytes(stored)

    @property
    def certificate(self) -> x509.Certificate | None:
        """The issued certificate, unless it was issued to another runtime or for another key."""
        held = self._record.certificate
        if held is None or held.public_key() != self.keys.tls.public_key():
            return None
        dns_name = x509.DNSName(runtime_dns_name(self.config.runtime_id))
        return held if names_of(held) == [dns_name] else None

    def request(self, nonce: bytes) -> dict[str, str]:
        """Answer ``nonce`` with a CSR and the sealing key. May be asked again until a certificate is in.

        Raises:
            EnrolmentRefused: there is no secret, or it is spent.
        """
        secret = self._unspent_secret()
        csr = signing_request(self.keys.tls, self.config.runtime_id)
        sealing = self.vault.sealing_public
        self._nonce = nonce
        return {
            "csr": csr.public_bytes(Encoding.PEM).decode(),
            "mac": request_mac(secret, nonce, csr.public_bytes(Encoding.DER), sealing).hex(),
            "sealing_public_key": sealing.hex(),
        }

    def install(self, nonce: bytes, certificate: x509.Certificate, mac: bytes) -> None:
        """Take the certificate issued for ``nonce`` into use, and spend the secret.

        The same call again, after a lost answer, succeeds and changes nothing.

        Raises:
            EnrolmentRefused: not authentic, not for the last nonce asked, not fit, or already enrolled.
        """
        secret = self._present_secret()
        try:
            check_mac(certificate_mac(secret, nonce, certificate.public_bytes(Encoding.DER)), mac)
        except EnrolmentError:
            raise EnrolmentRefused(403, "not_authentic", "the MAC does not fit the certificate") from None
        if self._is_spent(secret):
            if certificate == self.certificate:
                return
            raise _already_enrolled()
        if nonce != self._nonce:
            raise EnrolmentRefused(409, "unknown_nonce", "ask POST /v1/enrol with this nonce first")
        self._check_fit(certificate)
        self._commit(certificate, sha256(secret).hexdigest())

    def renewal_request(self) -> str:
        """A CSR in PEM, for a guest that has enrolled: its caller has passed mutual TLS and a token.

        Raises:
            EnrolmentRefused: not enrolled yet.
        """
        if self.certificate is None:
            raise EnrolmentRefused(409, "not_enrolled", "enrol first")
        csr = signing_request(self.keys.tls, self.config.runtime_id)
        return csr.public_bytes(Encoding.PEM).decode()

    def renew(self, certificate: x509.Certificate) -> None:
        """Take a newer certificate for the same key and name into use.

        Raises:
            EnrolmentRefused: not enrolled, not fit, or not newer.
        """
        held = self.certificate
        if held is None:
            raise EnrolmentRefused(409, "not_enrolled", "enrol first")
        self._check_fit(certificate)
        if certificate.not_valid_after_utc < held.not_valid_after_utc:
            raise EnrolmentRefused(409, "certificate_older", "the certificate in use lasts longer")
        self._commit(certificate, None)

    @property
    def _path(self) -> Path:
        return self.config.data / STATE_FILE

    def _check_fit(self, certificate: x509.Certificate) -> None:
        try:
            check_issued(certificate, self.keys.tls, self.config.runtime_id, self.trust.now.authorities)
        except CertificateRefused as refusal:
            raise EnrolmentRefused(422, "certificate_refused", f"the certificate: {refusal}") from None

    def _commit(self, certificate: x509.Certificate, spent: str | None) -> None:
        record = Record(certificate, self._record.spent if spent is None else (*self._record.spent, spent))
        write_atomically(self._path, record.to_bytes())
        self._record = record
        self._nonce = None
        self.on_certificate(certificate)

    def _present_secret(self) -> bytes:
        if self.config.secret is None:
            raise EnrolmentRefused(403, "no_enrolment_secret", "this boot's personalisation holds no secret")
        return self.config.secret

    def _unspent_secret(self) -> bytes:
        secret = self._present_secret()
        if self._is_spent(secret):
            raise _already_enrolled()
        return secret

    def _is_spent(self, secret: bytes) -> bool:
        return sha256(secret).hexdigest() in self._record.spent


def _already_enrolled() -> EnrolmentRefused:
    return EnrolmentRefused(409, "already_enrolled", "this secret has been used")
