"""Registering a passkey in the browser: options that carry a challenge of ours, and the check of the answer.

The challenge is kept in the session and used once. What is kept of a passkey is its public key, as
SubjectPublicKeyInfo: the guest checks signatures with that alone.
"""

import json
import secrets
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from webauthn import generate_registration_options, options_to_json, verify_registration_response
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, decode_credential_public_key
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.decode_credential_public_key import DecodedEC2PublicKey, DecodedOKPPublicKey
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from tenants.sites import rp_id

ALGORITHMS = [COSEAlgorithmIdentifier.ECDSA_SHA_256, COSEAlgorithmIdentifier.EDDSA]
"""All that :mod:`protocol.persons` accepts."""
SESSION_KEY = "passkey_challenge"
MAX_CREDENTIAL_ID = 1023
"""Bytes (W3C Web Authentication Level 2, §6.1)."""
_P256 = 1
_ED25519 = 6


class PasskeyRefused(Exception):
    """The browser's answer is not taken; the message says what to do."""


def creation_options(
    session: SessionBase, *, username: str, label: str, known: Iterable[str]
) -> dict[str, Any]:
    """What the browser needs to make a passkey; ``known``: credential ids that the person has here already.

    The user handle is random each time: under one relying party, one authenticator may serve several tenants.
    The passkey must be discoverable, for the runtime's own page cannot name it.
    """
    options = generate_registration_options(
        rp_id=rp_id(),
        rp_name="Managed host portal",
        user_name=username,
        user_id=secrets.token_bytes(32),
        user_display_name=label,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(name)) for name in known],
        supported_pub_key_algs=ALGORITHMS,
    )
    session[SESSION_KEY] = bytes_to_base64url(options.challenge)
    document: dict[str, Any] = json.loads(options_to_json(options))
    return document


def registered(session: SessionBase, credential: dict[str, Any]) -> tuple[bytes, str]:
    """The public key (SubjectPublicKeyInfo) and the credential id (base64url) of the browser's answer.

    Raises:
        PasskeyRefused: no challenge is waiting, or the answer is not to it, or not from our page.
    """
    challenge = session.pop(SESSION_KEY, None)
    if challenge is None:
        raise PasskeyRefused("This page has waited too long. Press the button again.")
    try:
        verified = verify_registration_response(
            credential=credential,
            expected_challenge=base64url_to_bytes(challenge),
            expected_rp_id=rp_id(),
            expected_origin=settings.BASE_URL,
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
        if len(verified.credential_id) > MAX_CREDENTIAL_ID:
            raise ValueError("a credential id that is too long")
        return _public_key_info(verified.credential_public_key), bytes_to_base64url(verified.credential_id)
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, IndexError):
        # The library reads a stranger's bytes; whatever it stumbles over is the answer's fault.
        raise PasskeyRefused("The passkey's answer does not fit. Press the button again.") from None


def _public_key_info(cose: bytes) -> bytes:
    """Raises ValueError for what :mod:`protocol.persons` would not accept."""
    decoded = decode_credential_public_key(cose)
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
    if isinstance(decoded, DecodedEC2PublicKey) and decoded.crv == _P256:
        x, y = (int.from_bytes(part, "big") for part in (decoded.x, decoded.y))
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    elif isinstance(decoded, DecodedOKPPublicKey) and decoded.crv == _ED25519:
        key = ed25519.Ed25519PublicKey.from_public_bytes(decoded.x)
    else:
        raise ValueError("an algorithm that is not accepted")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
