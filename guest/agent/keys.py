"""The guest's own keys: made here at the first boot, never leaving the data volume."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nacl.public import PrivateKey

from guest.agent.files import make_private_folder, read_optional, write_atomically
from protocol.enrolment import runtime_dns_name

TLS_KEY_FILE = "tls.key"
SEALING_KEY_FILE = "sealing.key"


class KeyFileError(Exception):
    """A key file holds something else. The agent stops: replacing it would lose what was sealed to it."""


@dataclass(frozen=True)
class Keys:
    """``tls`` proves who the guest is; ``sealing`` opens what was sealed to it (libsodium sealed box)."""

    tls: ec.EllipticCurvePrivateKey
    sealing: PrivateKey

    @property
    def sealing_public(self) -> bytes:
        """X25519, 32 bytes."""
        return bytes(self.sealing.public_key)


def load_or_create_keys(folder: Path) -> Keys:
    """Return the keys in ``folder``, making those that are not there yet.

    Raises:
        KeyFileError: a file is there and holds no such key.
    """
    make_private_folder(folder)
    return Keys(_tls_key(folder / TLS_KEY_FILE), _sealing_key(folder / SEALING_KEY_FILE))


def signing_request(key: ec.EllipticCurvePrivateKey, runtime_id: str) -> x509.CertificateSigningRequest:
    """A CSR for the runtime's one DNS name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(runtime_id))
    return builder.add_extension(_dns_name(runtime_id), critical=False).sign(key, hashes.SHA256())


def tls_key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    stored = read_optional(path)
    if stored is None:
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomically(path, tls_key_pem(key))
        return key
    try:
        loaded = serialization.load_pem_private_key(stored, password=None)
    except ValueError:
        raise KeyFileError(f"{path.name} is damaged") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path.name} is no elliptic-curve key")
    return loaded


def _sealing_key(path: Path) -> PrivateKey:
    stored = read_optional(path)
    if stored is None:
        key = PrivateKey.generate()
        write_atomically(path, bytes(key))
        return key
    if len(stored) != PrivateKey.SIZE:
        raise KeyFileError(f"{path.name} is damaged")
    return PrivateKey(stored)


def _subject(runtime_id: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, runtime_id)])


def _dns_name(runtime_id: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(runtime_dns_name(runtime_id))])
