"""Plain words for every action that the code can write; a test finds one that has none.

``{name}`` in a sentence stands for a fact of the event, and is ``…`` where an event has none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from provisioning.models import Operation
from provisioning.sequences import LABELS

Kind = Operation.Kind


class Topic(StrEnum):
    """What an entry is about: what people filter by."""

    MACHINE = "machine"
    PEOPLE = "people"
    SECRETS = "secrets"
    OUTSIDE = "outside"
    TENANCY = "tenancy"
    RECORD = "record"
    BREAK_GLASS = "break_glass"
    REQUESTS = "requests"
    FLEET = "fleet"


TOPICS: dict[str, str] = {
    Topic.MACHINE: "Machine",
    Topic.PEOPLE: "People and keys",
    Topic.SECRETS: "Secrets",
    Topic.OUTSIDE: "Outside",
    Topic.TENANCY: "Tenancy",
    Topic.RECORD: "Record",
    Topic.BREAK_GLASS: "Break-glass",
    Topic.REQUESTS: "Requests",
}
"""The labels of those that a tenant's entries can have."""


@dataclass(frozen=True)
class Words:
    """One action's."""

    topic: Topic
    sentence: str


def _all(topic: Topic, sentences: Mapping[str, str]) -> dict[str, Words]:
    return {action: Words(topic, sentence) for action, sentence in sentences.items()}


WORDS: dict[str, Words] = {
    **_all(
        Topic.MACHINE,
        {
            "runtime.registered": "Set up the machine",
            "runtime.enrolled": "Gave the machine its certificate",
            "runtime.certificate_renewed": "Renewed the machine's certificate",
            "runtime.key_destroyed": "Destroyed the key of the machine's volume",
            "runtime.sealing_key_changed": "Took note of a new sealing key that the machine stated",
            "operation.requested": "Asked to {kind}",
            "operation.cancel_requested": "Asked to cancel what was going on with the machine",
            "operation.superseded": "Put aside what was going on with the machine for something more urgent",
            "operation.step_done": "Did a step to {kind}: {step}",
            "operation.step_undone": "Undid a step to {kind}: {step}",
            "operation.step_failed": "Gave up a step to {kind}: {step} ({code})",
            "operation.succeeded": "Succeeded to {kind}",
            "operation.failed": "Failed to {kind}",
            "operation.cancelled": "Cancelled: {kind}",
            "drift.found": "Found the machine other than it should be: {code}",
            "drift.cleared": "Found a difference gone: {code}",
        },
    ),
    **_all(
        Topic.PEOPLE,
        {
            "session.began": "Signed in",
            "session.ended": "Signed out",
            "session.refused": "Was refused a sign-in",
            "user.password_changed": "Changed their password",
            "membership.added": "Added {user} as {role}",
            "membership.changed": "Made {user} {role}",
            "membership.removed": "Removed {user}",
            "key.registered": "Registered a key of {user} ({kind})",
            "key.removed": "Removed a key of {user} ({kind})",
            "keyring.accepted": "Signed keyring {version}",
            "consent.accepted": "Signed consents, version {version}",
            "guest.stated": "Noted the keyring that the machine states",
            "guest.keyring_refused": "Was told by the machine that it refuses a keyring: {code}",
            "access.closed": "Closed members' access to the machine",
            "access.reopened": "Reopened members' access to the machine",
        },
    ),
    **_all(
        Topic.SECRETS,
        {
            "secret.put": "Saved the secret {name}, version {version}",
            "secret.revoked": "Revoked the secret {name}",
            "secret.held": "Heard that the machine holds the secret {name}, version {version}",
            "secret.refused": "Heard that the machine refuses the secret {name}: {code}",
            "secret.forgotten": "Heard that the machine has forgotten the secret {name}",
            "secret.resealed": "Kept the secret {name} as the machine has sealed it to its new key",
            "tenant_key.made": "Made the key that wraps the tenant's secrets, version {version}",
            "tenant_key.rotation_asked": "Asked for a new key that wraps the tenant's secrets",
            "tenant_key.destroyed": "Destroyed the key that wraps the tenant's secrets, version {version}",
        },
    ),
    **_all(
        Topic.OUTSIDE,
        {
            "connector.allowed": "Allowed the connector {connector}",
            "connector.forbidden": "Forbade the connector {connector}",
            "connector.enabled": "Turned the connector {connector} on",
            "connector.disabled": "Turned the connector {connector} off",
        },
    ),
    **_all(
        Topic.TENANCY,
        {
            "tenant.created": "Created the tenant with the plan {plan}",
            "tenant.changed": "Changed the tenant's name or price",
            "tenant.plan_changed": "Changed the plan to {plan}",
            "tenant.offboarded": "Ended the tenancy",
            "request.refused": "Was refused with {status}: {code}",
            "rate.refused": "Was refused for too many requests: {rate}, {limit} a minute",
        },
    ),
    **_all(
        Topic.BREAK_GLASS,
        {
            "approvers.named": "Named the approvers whom the machine believes, version {version}",
            "terms.accepted": "Signed terms, version {version}: {ordinary}, in an emergency {emergency}",
            "guest.approvers_stated": "Noted the approvers and terms that the machine states",
            "guest.approvers_refused": "Was told by the machine that it refuses approvers or terms: {code}",
            "ticket.opened": "Asked for access to the machine ({kind}): {scopes} for {seconds} s",
            "ticket.edited": "Changed what was asked, so that nothing is approved: {scopes} for {seconds} s",
            "ticket.approval_given": "Approved the access that was asked for",
            "ticket.owner_approved": "Let the access in that was asked for, as an owner",
            "ticket.approved": "Took the access for approved: {needed} people are enough",
            "ticket.rejected": "Rejected the access that was asked for",
            "ticket.withdrawn": "Withdrew what was asked",
            "ticket.timed_out": "Let a request for access lapse: nobody used it in time",
            "ticket.started": "Began access to the machine, for {seconds} s",
            "ticket.ended": "Ended access to the machine, done",
            "ticket.expired": "Ended access to the machine: its time was over",
            "ticket.revoked": "Revoked access to the machine ({ending})",
            "break_glass.granted": "Had the machine take the approved access, which checked it by itself",
            "break_glass.grant_refused": "Was refused by the machine, which takes no such access: {code}",
            "break_glass.opened": "Opened the machine under a ticket",
            "break_glass.entered": "Came to the machine's own address under a ticket",
            "break_glass.routed": "Asked the machine under a ticket: {method} {path}",
            "break_glass.end_confirmed": "Was told by the machine that access is over, {streams} cut",
            "break_glass.receipts": "Took in the machine's own receipts of access, {from} to {to}",
            "break_glass.mismatch": "Found that the machine's receipts and this record differ: {kind}",
            "break_glass.mismatch_acknowledged": "Looked into a difference to the machine's receipts: {kind}",
            "break_glass.exported": "Downloaded the receipts of an access, {from} to {to}",
            "webhook.added": "Had an address told of requests for access ({kind})",
            "webhook.retired": "Had an address told no more ({kind})",
            "ticket.reviewed": "Wrote the review of an access to the machine",
        },
    ),
    **_all(
        Topic.RECORD,
        {
            "personal.erased": "Erased personal data that entries committed to",
            "witness.registered": "Took the witness {name} into account",
            "witness.retired": "Took the witness {name} out of account",
            "witness.refused": "Was refused a signature by the witness {name}: {code}",
            "witness.refusal_acknowledged": "Looked into the refusal of the witness {name}",
            "record.dispute_acknowledged": "Looked into a checkpoint that this log does not continue",
            "record.viewed": "Looked at the page of {page}",
            "record.exported": "Downloaded entries with their proofs",
            "record.archived": "Moved the entries from {first} to before {end} into an archive",
            "record.personal_opened": "Looked at the personal data behind an entry",
            "record.disputed": "Showed a checkpoint that this log does not continue, of size {size}",
        },
    ),
    **_all(
        Topic.REQUESTS,
        {
            "route.opened": "Opened the way to the machine",
            "route.entered": "Came in at the machine's own address",
            "request.routed": "Sent a request to the machine: {method} {path}",
            "agent.requested": "Called the machine's agent: {method} {path}",
            "agent.answered": "Got an answer from the machine's agent: {method} {path}",
            "agent.failed": "Got no good answer from the machine's agent: {method} {path} ({outcome})",
        },
    ),
    **_all(
        Topic.FLEET,
        {
            "passkey.registered": "Registered a passkey of {user}",
            "passkey.retired": "Retired a passkey of {user}",
            "passkey.cloned": "Noticed that a passkey of {user} may have a copy: it signs nothing any more",
            "approvers.proposed": "Proposed version {version} of the approvers",
            "approvers.signed": "Signed version {version} of the approvers",
            "approvers.accepted": "Put version {version} of the approvers in force: a quorum has signed it",
            "approvers.withdrawn": "Withdrew the proposed version {version} of the approvers",
            "plan.created": "Made the plan {name}",
            "plan.changed": "Changed the plan {name}",
            "host.registered": "Registered the host {name}",
            "host.probed": "Looked at the host {name}",
            "host.enabled": "Opened a host for machines",
            "host.drained": "Closed a host for new machines",
            "host.mending": "Mended a host: {code}",
            "image.registered": "Registered the guest image {version}",
            "image.updated": "Changed the guest image {version}",
            "image.retired": "Retired the guest image {version}",
            "fleet_key.made": "Made a key of the fleet: {use}",
            "key.announced": "Announced a key of the fleet: {use}",
            "key.switched": "Switched to a key of the fleet: {use}",
            "key.superseded": "Superseded a key of the fleet: {use}",
            "key.retired": "Retired a key of the fleet: {use}",
            "egress.rules_issued": "Issued rules for a host's way out",
            "egress.rules_applied": "Had a host's way out follow its rules",
            "egress.records_lost": "Noticed lost records of outside connections",
            "egress.records_purged": "Removed old records of outside connections",
            "user.created": "Created a person",
            "user.added": "Added a person",
            "user.changed": "Changed a person",
            "user.deleted": "Deleted a person",
            "user.permissions_changed": "Changed what a person may do",
            "group.added": "Added a group",
            "group.changed": "Changed a group",
            "group.deleted": "Deleted a group",
            "group.permissions_changed": "Changed what a group may do",
            "command.ran": "Ran a command of the portal's own machine",
            "command.began": "Began a command of the portal's own machine",
            "request.refusals_counted": "Counted more refusals: {strangers} of strangers, {people} of people",
            "accessattempt.added": "Added a count of failed sign-ins",
            "accessattempt.changed": "Changed a count of failed sign-ins",
            "accessattempt.deleted": "Unlocked a sign-in",
        },
    ),
}

DEEDS: dict[str, str] = {
    Kind.CREATE: "create the machine",
    Kind.START: "start the machine",
    Kind.STOP: "stop the machine",
    Kind.RESTART: "restart the machine",
    Kind.REBUILD: "rebuild the machine",
    Kind.DELETE: "delete the machine",
    Kind.FORCE_DELETE: "delete the machine by force",
    Kind.DELIVER: "deliver secrets",
    Kind.RESEAL: "change the machine's sealing key",
    Kind.RESIZE: "apply the plan",
    Kind.RESIZE_RESTART: "apply the plan, with a restart",
    Kind.QUARANTINE: "set the machine aside",
    Kind.RELEASE: "release the machine",
    Kind.MEND: "mend the machine",
}
_SEEN = {"step": LABELS, "kind": DEEDS}
_FACT = re.compile(r"\{([a-z]+)\}")
_LONGEST = 120


def sentence(action: str, data: Mapping[str, Any]) -> str:
    """What was done, for people: the action itself where there are no words for it."""
    known = WORDS.get(action)
    return _FACT.sub(lambda named: _fact(named[1], data.get(named[1])), known.sentence) if known else action


def actions(topics: set[str]) -> list[str]:
    """The actions of these topics, sorted."""
    return sorted(action for action, words in WORDS.items() if words.topic in topics)


def topic(action: str) -> str:
    """What an action is about; empty for one without words."""
    known = WORDS.get(action)
    return str(known.topic) if known else ""


def _fact(name: str, value: object) -> str:
    shown = str(value) if isinstance(value, str | int) else ""
    return _SEEN.get(name, {}).get(shown, shown)[:_LONGEST] or "…"
