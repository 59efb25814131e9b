"""Who is at the other end of a connection: the control plane, its proxy, or nobody that may come in."""

from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from guest.agent.certificates import is_authority, names_of
from guest.agent.trust import Believed
from protocol.enrolment import CONTROL_PLANE_URI, PROXY_URI


class Caller(StrEnum):
    """The two that have client certificates."""

    CONTROL_PLANE = "control plane"
    PROXY = "proxy"
    """Carries members' requests; it has no business on a control route."""


_NAMES = {CONTROL_PLANE_URI: Caller.CONTROL_PLANE, PROXY_URI: Caller.PROXY}


def caller_of(certificate: x509.Certificate, believed: Believed) -> Caller | None:
    """Whose client certificate this is, or None.

    TLS has checked chain and dates against every CA that this process has known; here it is asked again
    whether one of the present ones issued it, because OpenSSL forgets none.
    """
    names = names_of(certificate)
    uri = names[0].value if len(names) == 1 and isinstance(names[0], x509.UniformResourceIdentifier) else ""
    caller = _NAMES.get(uri)
    if caller is None or certificate.serial_number in believed.revoked:
        return None
    if is_authority(certificate) or not _is_for_clients(certificate):
        return None
    return caller if any(_issued(certificate, each) for each in believed.authorities) else None


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage
