"""X.509 as the agent needs it: its stand-in certificate, and what it checks of the one that it is given."""

import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from protocol.enrolment import runtime_dns_name

STAND_IN_BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
STAND_IN_END = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


class CertificateRefused(ValueError):
    """A certificate does not fit; the message says in which way."""


def stand_in_certificate(key: ec.EllipticCurvePrivateKey, runtime_id: str) -> x509.Certificate:
    """Self-signed, for the time before enrolment. It proves nothing; the enrolment MAC does."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, runtime_id)])
    dns_name = x509.DNSName(runtime_dns_name(runtime_id))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(STAND_IN_BEGIN)
        .not_valid_after(STAND_IN_END)
        .add_extension(x509.SubjectAlternativeName([dns_name]), critical=False)
        .sign(key, hashes.SHA256())
    )


def check_issued(
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    runtime_id: str,
    authorities: Sequence[x509.Certificate],
) -> None:
    """Check that ``certificate`` is this guest's, from a known CA, for servers, and valid now.

    Raises:
        CertificateRefused: it is not.
    """
    own = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    theirs = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own != theirs:
        raise CertificateRefused("it is for another key")
    name = x509.DNSName(runtime_dns_name(runtime_id))
    if names_of(certificate) != [name]:
        raise CertificateRefused("it must name this runtime and nothing else")
    builder = PolicyBuilder().store(Store(list(authorities))).time(dt.datetime.now(dt.UTC))
    try:
        builder.build_server_verifier(name).verify(certificate, [])
    except VerificationError as error:
        raise CertificateRefused(f"it does not verify: {str(error)[:120]}") from None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate may itself issue others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The subject's alternative names; none if there is no such extension or it cannot be read."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        return []
