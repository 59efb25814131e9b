"""The fleet CA and the keys of the control plane, wrapped at rest.

Runs only where the wrapping key is. Source of the profile: RFC 5280; a leaf carries exactly one use, so a
guest's server certificate cannot pass as the control plane's client certificate.
"""

from datetime import UTC, datetime, timedelta
from secrets import token_bytes

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from protocol import enrolment as messages
from protocol.tokens import public_key as token_public_key
from provisioning.models import FleetKey, Runtime
from provisioning.wrapping import WrappingError, unwrap, wrap

Use, State = FleetKey.Use, FleetKey.State
_CLIENTS: dict[str, str] = {Use.CLIENT: messages.CONTROL_PLANE_URI, Use.PROXY: messages.PROXY_URI}
"""Those who show a client certificate, and the only name in it."""
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

    The two clients' are replaced a month before they lapse. Guests know the CA, so both work meanwhile.
    """
    found = FleetKey.objects.filter(use=use, state=State.CURRENT).first()
    if found is not None and not _ends_soon(found):
        return found
    try:
        with transaction.atomic():
            if found is not None:
                replaced = FleetKey.objects.filter(pk=found.pk, state=State.CURRENT)
                replaced.update(state=State.TRUSTED, changed_at=timezone.now())
            return make_fleet_key(use, State.CURRENT)
    except IntegrityError:
        return FleetKey.objects.get(use=use, state=State.CURRENT)


def believed(use: str) -> list[FleetKey]:
    """The keys that guests and the control plane believe, newest first.

    Web can write this table. So a row counts only if its wrapped key opens and belongs to its public part,
    which nobody can make who does not hold the wrapping key.

    Raises:
        WrappingError: this process holds no wrapping key, or a row was changed.
    """
    fleet_key(use)
    found = list(FleetKey.objects.filter(use=use, state__in=FleetKey.BELIEVED).order_by("-pk"))
    for key in found:
        if public_half(key) != _stated(key):
            raise WrappingError(f"Fleet key {key.pk} is not its public part's. Look who changed it.")
    return found


def authorities() -> str:
    """PEM of every CA that is believed, newest first: what a guest's certificate is checked against."""
    return "".join(key.certificate for key in believed(Use.CA))


def token_seed() -> bytes:
    """The Ed25519 seed that signs tokens now. Only for immediate use in this process."""
    return _opened(fleet_key(Use.TOKEN))


def private_key(key: FleetKey) -> ec.EllipticCurvePrivateKey:
    """Open a CA's or client's key. Only for immediate use in this process.

    Raises:
        WrappingError: this process may not, or the bytes were changed.
    """
    loaded = serialization.load_der_private_key(_opened(key), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise WrappingError("A fleet key is of an unexpected kind.")
    return loaded


def private_pem(key: FleetKey) -> bytes:
    """A client's certificate and key together, as OpenSSL and nginx read them."""
    plain = private_key(key).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key.certificate.encode() + plain


def serial(key: FleetKey) -> str:
    """Of its certificate, in hex without leading zeros; empty for a signer of tokens."""
    return f"{_certificate(key).serial_number:x}" if key.certificate else ""


def issuer_key_id(key: FleetKey) -> bytes:
    """Which CA key signed a client's certificate (RFC 5280 §4.2.1.1)."""
    extension = _certificate(key).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return extension.value.key_identifier or b""


def own_key_id(key: FleetKey) -> bytes:
    """The same of a CA's own key."""
    found = x509.SubjectKeyIdentifier.from_public_key(private_key(key).public_key())
    return found.digest


def public_half(key: FleetKey) -> bytes:
    """The public key that belongs to the wrapped one."""
    if key.use == Use.TOKEN:
        return token_public_key(_opened(key))
    return _spki(private_key(key).public_key())


def make_fleet_key(use: str, state: str) -> FleetKey:
    """Make and store a key, with its audit entry, in the caller's transaction."""
    key = FleetKey(use=use, state=state)
    if use == Use.TOKEN:
        plain = token_bytes(32)
        key.public_key = token_public_key(plain).hex()
    else:
        private = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed_ca(private) if use == Use.CA else _client_certificate(private, use)
        key.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()
        key.expires_at = certificate.not_valid_after_utc
        plain = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    key.private_key = wrap(plain, identity=_identity(key))
    key.save(force_insert=True)
    record(
        action="fleet_key.made",
        actor=SYSTEM,
        target=("fleet_key", key.pk),
        data={"use": str(use), "state": str(state), "name": name_of(key)},
    )
    return key


def name_of(key: FleetKey) -> str:
    """What people compare: a certificate's serial number, or a signer's public key, in hex."""
    return serial(key) or key.public_key


def _client_certificate(private: ec.EllipticCurvePrivateKey, use: str) -> x509.Certificate:
    return _sign_leaf(
        private.public_key(),
        common_name=_CLIENTS[use].rpartition(":")[2],
        alternative=x509.UniformResourceIdentifier(_CLIENTS[use]),
        use=ExtendedKeyUsageOID.CLIENT_AUTH,
        lifetime=CLIENT_LIFETIME,
    )


def _ends_soon(key: FleetKey) -> bool:
    ends = key.expires_at
    return key.use in _CLIENTS and ends is not None and ends <= datetime.now(UTC) + CLIENT_RENEWAL


def _opened(key: FleetKey) -> bytes:
    return unwrap(key.private_key, identity=_identity(key))


def _identity(key: FleetKey) -> str:
    """The public part, not the row's number: it is known before the row exists."""
    return f"fleet_key/{key.use}/{name_of(key)}"


def _stated(key: FleetKey) -> bytes:
    if key.use == Use.TOKEN:
        return bytes.fromhex(key.public_key)
    return _spki(_certificate(key).public_key())


def _spki(public: object) -> bytes:
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise WrappingError("A fleet key is of an unexpected kind.")
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _certificate(key: FleetKey) -> x509.Certificate:
    return x509.load_pem_x509_certificate(key.certificate.encode())


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
    ca = fleet_key(Use.CA)
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
