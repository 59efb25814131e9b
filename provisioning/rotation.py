"""Changing the fleet's keys with overlap: announce, switch, finish. Each move can be repeated.

A key that is announced is believed by the guests before anybody uses it; one that was switched away from is
believed until it is finished. So no guest and no worker meets a key that the other does not know.
"""

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from audit.context import Actor
from audit.services import record
from provisioning.fleet_keys import (
    State,
    Use,
    believed,
    fleet_key,
    issuer_key_id,
    make_fleet_key,
    name_of,
    own_key_id,
    serial,
)
from provisioning.models import FleetKey, Runtime
from provisioning.trust import trust

CLIENTS = (Use.CLIENT, Use.PROXY)
"""The CA vouches for their certificates, so guests need not be told before a new one is used."""


class RotationRefused(Exception):
    """This move is not due; the message says what is missing."""


@transaction.atomic
def key_announce(*, actor: Actor, use: str) -> FleetKey:
    """Make the next key. Guests are told to believe it; nobody uses it yet. The one that waits is kept."""
    fleet_key(use)
    found = FleetKey.objects.select_for_update().filter(use=use, state=State.ANNOUNCED).first()
    if found is not None:
        return found
    made = make_fleet_key(use, State.ANNOUNCED)
    _record("key.announced", actor, made)
    return made


@transaction.atomic
def key_switch(*, actor: Actor, use: str) -> FleetKey:
    """Use the announced key from now on; the one before stays believed.

    A new CA at once issues new certificates for the control plane; the guests' follow with their renewal.

    Raises:
        RotationRefused: none is announced, or a ready guest does not know it yet.
    """
    announced = FleetKey.objects.select_for_update().filter(use=use, state=State.ANNOUNCED).first()
    if announced is None:
        raise RotationRefused("No key is announced. Announce one first.")
    if use not in CLIENTS and (waiting := _unconfirmed()):
        raise RotationRefused(
            f"{len(waiting)} ready guests have not confirmed it yet: {', '.join(waiting[:5])}. "
            "See that workers run, or stop those guests, then try again."
        )
    _move(actor, FleetKey.objects.filter(use=use, state=State.CURRENT), State.TRUSTED)
    _move(actor, [announced], State.CURRENT)
    if use == Use.CA:
        for client in CLIENTS:
            fleet_key(client)
            FleetKey.objects.filter(use=client, state=State.ANNOUNCED).delete()  # of the old CA, and unused
            _move(actor, FleetKey.objects.filter(use=client, state=State.CURRENT), State.TRUSTED)
            _record("key.switched", actor, make_fleet_key(client, State.CURRENT))
    return announced


@transaction.atomic
def key_finish(*, actor: Actor, use: str) -> list[FleetKey]:
    """Believe the keys before no longer, and destroy them. A client's certificate is revoked.

    Raises:
        RotationRefused: something still depends on them.
    """
    old = list(FleetKey.objects.select_for_update().filter(use=use, state=State.TRUSTED))
    if use == Use.CA:
        _check_nothing_hangs_on(old)
    _move(actor, old, State.RETIRED)
    return old


def _check_nothing_hangs_on(authorities: list[FleetKey]) -> None:
    serials = [serial(key) for key in authorities]
    guests = Runtime.objects.filter(
        phase=Runtime.Phase.READY,
        certificate_issuer__in=serials,
        certificate_expires_at__gt=timezone.now(),
    )
    if guests.exists():
        raise RotationRefused(
            f"{guests.count()} guests still serve a certificate of the old CA. They get a new one within "
            "15 minutes while workers and beat run; then try again."
        )
    keys = {own_key_id(key) for key in authorities}
    for use in CLIENTS:
        if any(issuer_key_id(key) in keys for key in believed(use) if key.state != State.TRUSTED):
            raise RotationRefused(f"The {use}'s certificate is of the old CA. Rotate {use} first.")


def _unconfirmed() -> list[str]:
    ready = Runtime.objects.filter(phase=Runtime.Phase.READY).exclude(trust_seen=trust().hash)
    return [str(runtime) for runtime in ready.order_by("created_at")]


def _move(actor: Actor, keys: Iterable[FleetKey], state: str) -> None:
    for key in keys:
        key.state, key.changed_at = state, timezone.now()
        if state == State.RETIRED:
            key.private_key = b""
        key.save(update_fields=["state", "changed_at", "private_key"])
        _record(_ACTIONS[state], actor, key)


_ACTIONS: dict[str, str] = {
    State.TRUSTED: "key.superseded",
    State.CURRENT: "key.switched",
    State.RETIRED: "key.retired",
}


def _record(action: str, actor: Actor, key: FleetKey) -> None:
    about = {"use": key.use, "name": name_of(key)}
    record(action=action, actor=actor, target=("fleet_key", key.pk), data=about)
