"""The fleet CA and the keys of the control plane, wrapped at rest.

Runs only where the wrapping key is. Source of the profile: RFC 5280; a leaf carries exactly one use, so a
guest's server certificate cannot pass as the control plane's client certificate.
"""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.db import IntegrityError, transaction

from audit.context import SYSTEM
from audit.services import record
from protocol import enrolment as messages
from provisioning.models import FleetKey, Runtime
from provisioning.wrapping import WrappingError, unwrap, wrap

BACKDATE = timedelta(minutes=5)
SERVER_LIFETIME = timedelta(hours=24) - BACKDATE
CLIENT_LIFETIME = timedelta(days=90)
CLIENT_RENEWAL = timedelta(days=30)
CA_LIFETIME = timedelta(days=3650)


def issue_server_certificate(runtime: Runtime, csr: x509.CertificateSigningRequest) -> x509.Certificate:
    """A server certificate for the CSR's key. Every name is ours; nothing else of the CSR is copied."""
    name = messages.runtime_dns_name(str(runtime.pk))
    return _sign_leaf(
        csr.public_key(),
        common_name=str(runtime.pk),
        alternative=x509.DNSName(name),
        use=ExtendedKeyUsageOID.SERVER_AUTH,
        lifetime=SERVER_LIFETIME,
    )


def fleet_key(use: str) -> FleetKey:
    """The key in use, made on first need. Two workers that make it at once end with the same one.

    The client's is replaced a month before it lapses. Guests know the CA, so both work meanwhile.
    """
    found = FleetKey.objects.filter(use=use, retired=False).first()
    ends_soon = datetime.now(UTC) + CLIENT_RENEWAL
    if found is not None and (use != FleetKey.Use.CLIENT or found.expires_at > ends_soon):
        return found
    try:
        with transaction.atomic():
            FleetKey.objects.filter(use=use, retired=False, expires_at__lte=ends_soon).update(retired=True)
            return _make_fleet_key(use)
    except IntegrityError:
        return FleetKey.objects.get(use=use, retired=False)


def private_key(key: FleetKey) -> ec.EllipticCurvePrivateKey:
    """Open a fleet key. Only for immediate use in this process.

    Raises:
        WrappingError: this process may not, or the bytes were changed.
    """
    loaded = serialization.load_der_private_key(unwrap(key.private_key, identity=_identity(key)), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise WrappingError("A fleet key is of an unexpected kind.")
    return loaded


def _make_fleet_key(use: str) -> FleetKey:
    private = ec.generate_private_key(ec.SECP256R1())
    if use == FleetKey.Use.CA:
        certificate = _self_signed_ca(private)
    else:
        certificate = _sign_leaf(
            private.public_key(),
            common_name="control plane",
            alternative=x509.UniformResourceIdentifier(messages.CONTROL_PLANE_URI),
            use=ExtendedKeyUsageOID.CLIENT_AUTH,
            lifetime=CLIENT_LIFETIME,
        )
    key = FleetKey(
        use=use,
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        expires_at=certificate.not_valid_after_utc,
    )
    plain = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The serial, not the row's number, is the identity: it is known before the row exists.
    key.private_key = wrap(plain, identity=_identity(key))
    key.save(force_insert=True)
    record(
        action="fleet_key.made",
        actor=SYSTEM,
        target=("fleet_key", key.pk),
        data={"use": str(use), "serial": f"{certificate.serial_number:x}"},
    )
    return key


def _identity(key: FleetKey) -> str:
    serial = x509.load_pem_x509_certificate(key.certificate.encode()).serial_number
    return f"fleet_key/{key.use}/{serial:x}"


def _self_signed_ca(private: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Managed host fleet CA")
    return (
        _builder(private.public_key(), name, name, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )


def _sign_leaf(
    public_key: object,
    *,
    common_name: str,
    alternative: x509.GeneralName,
    use: x509.ObjectIdentifier,
    lifetime: timedelta,
) -> x509.Certificate:
    ca = fleet_key(FleetKey.Use.CA)
    issuer = x509.load_pem_x509_certificate(ca.certificate.encode())
    signer = private_key(ca)
    return (
        _builder(public_key, _name(common_name), issuer.subject, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        # Not critical: the verifier of the `cryptography` package, which the guest uses, wants it so.
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )


def _builder(
    public_key: object, subject: x509.Name, issuer: x509.Name, lifetime: timedelta
) -> x509.CertificateBuilder:
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise TypeError("Only elliptic-curve keys are certified.")
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
