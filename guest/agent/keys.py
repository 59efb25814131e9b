"""The guest's own keys: made here, never leaving the data volume."""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nacl.public import PrivateKey

from guest.agent.files import (
    FileDamaged,
    erase,
    make_private_folder,
    read_optional,
    sync_folder,
    write_atomically,
)
from protocol.enrolment import runtime_dns_name
from protocol.sealed import key_id

TLS_KEY_FILE = "tls.key"
FIRST_SEALING_KEY_FILE = "sealing.key"
"""The first sealing key, until the vault has noted its id."""
_SEALING_KEY_FILES = re.compile(r"sealing-[0-9a-f]{16}\.key")
_UNFINISHED = re.compile(r"\.sealing(-[0-9a-f]{16})?\.key\.new")


class KeyFileError(FileDamaged):
    """A key file holds something else. The agent stops: replacing it would lose what was sealed to it."""


class SealingKeys:
    """The private halves for libsodium's sealed boxes: a file each, written once and overwritten at its end.

    Which of them are in use is the vault's knowledge (:mod:`guest.agent.vault`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def any_named(self) -> bool:
        """Whether there is a key that a vault has noted."""
        return any(_SEALING_KEY_FILES.fullmatch(path.name) for path in self._folder.iterdir())

    def first(self) -> PrivateKey:
        """The key that no vault has noted yet; made if it is not there.

        Raises:
            KeyFileError: the file holds something else.
        """
        path = self._folder / FIRST_SEALING_KEY_FILE
        stored = read_optional(path)
        if stored is not None:
            return _sealing_key(path, stored)
        key = PrivateKey.generate()
        write_atomically(path, bytes(key))
        return key

    def make(self) -> PrivateKey:
        """A new one, kept under its id."""
        key = PrivateKey.generate()
        write_atomically(self._path(key_id(bytes(key.public_key))), bytes(key))
        return key

    def load(self, name: str) -> PrivateKey:
        """The key of that id. The first one gets its own name here.

        Raises:
            KeyFileError: it is not there, or the file holds another.
        """
        path, first = self._path(name), self._folder / FIRST_SEALING_KEY_FILE
        stored = read_optional(path)
        if stored is None and read_optional(first) is not None:
            key = _named(first, name)
            first.rename(path)
            sync_folder(self._folder)
            return key
        return _named(path, name)

    def keep_only(self, *names: str) -> None:
        """Destroy every other one, and what a crash left of one that was being made."""
        kept = {self._path(name).name for name in names}
        for path in sorted(self._folder.iterdir()):
            known = path.name == FIRST_SEALING_KEY_FILE or _SEALING_KEY_FILES.fullmatch(path.name)
            if (known and path.name not in kept) or _UNFINISHED.fullmatch(path.name):
                erase(path)

    def _path(self, name: str) -> Path:
        return self._folder / f"sealing-{name}.key"


@dataclass(frozen=True)
class Keys:
    """``tls`` proves who the guest is; ``sealing`` opens what was sealed to it."""

    tls: ec.EllipticCurvePrivateKey
    sealing: SealingKeys


def load_or_create_keys(folder: Path) -> Keys:
    """Return the keys in ``folder``, making the TLS key if it is not there yet.

    Raises:
        KeyFileError: a file is there and holds no such key.
    """
    make_private_folder(folder)
    return Keys(_tls_key(folder / TLS_KEY_FILE), SealingKeys(folder))


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


def _named(path: Path, name: str) -> PrivateKey:
    stored = read_optional(path)
    if stored is None:
        raise KeyFileError(f"{path.name} is missing")
    key = _sealing_key(path, stored)
    if key_id(bytes(key.public_key)) != name:
        raise KeyFileError(f"{path.name} is damaged")
    return key


def _sealing_key(path: Path, stored: bytes) -> PrivateKey:
    if len(stored) != PrivateKey.SIZE:
        raise KeyFileError(f"{path.name} is damaged")
    return PrivateKey(stored)


def _subject(runtime_id: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, runtime_id)])


def _dns_name(runtime_id: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(runtime_dns_name(runtime_id))])
