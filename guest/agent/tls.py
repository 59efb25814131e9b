"""The agent's end of TLS: version 1.3 only, a client certificate always, one certificate swapped in place."""

import ssl
import tempfile
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from guest.agent.keys import tls_key_pem


def server_context(authorities: Sequence[x509.Certificate]) -> ssl.SSLContext:
    """A context that demands a certificate from ``authorities`` of every client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    # A resumed session would skip the client's certificate, so nothing is handed out to resume with.
    context.num_tickets = 0
    add_authorities(context, authorities)
    return context


def add_authorities(context: ssl.SSLContext, authorities: Sequence[x509.Certificate]) -> None:
    """Let connections from now on show a certificate of these CAs too. OpenSSL forgets none of the others."""
    pem = "".join(authority.public_bytes(Encoding.PEM).decode() for authority in authorities)
    context.load_verify_locations(cadata=pem)


def use_certificate(
    context: ssl.SSLContext, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    """Serve ``certificate`` on every connection from now on; those that are open keep theirs."""
    # OpenSSL reads files only. This one is private to the agent (mode 0600) and gone when the call returns.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificate.public_bytes(Encoding.PEM) + tls_key_pem(key))
        file.flush()
        context.load_cert_chain(file.name)


def peer_certificate(connection: ssl.SSLObject) -> x509.Certificate | None:
    """The client's leaf, or None if there is none or it cannot be read."""
    der = connection.getpeercert(binary_form=True)
    try:
        return x509.load_der_x509_certificate(der) if der else None
    except ValueError:
        return None
