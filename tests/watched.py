"""Which rows may change without an audit entry, and why (docs/adr/0033-nothing-unrecorded.md).

Every table that is not named here is watched, so a new model is watched from its first day.
"""

TELEMETRY: dict[str, str] = {
    "django_session": "began and ended are entries; the row also carries challenges and messages",
    "django_admin_log": "Django's own log of the same changes; nobody reads it",
    "django_content_type": "names of models, written by migrate",
    "django_migrations": "written by migrate, which leaves an entry of its own",
    "axes_accessattempt": "counters of failed sign-ins, each of which is an entry",
    "axes_accessattemptexpiration": "the same",
    "axes_accesslog": "the same",
    "axes_accessfailurelog": "the same",
    "provisioning_egressrecord": "what guests tried outside, by the proxy's word",
    "provisioning_egresscursor": "how far a proxy's file was read",
    "provisioning_step": "a step's progress; its end is an entry",
    "audit_leaf": "the record's own tree, which the sequencer grows from the entries",
    "audit_tile": "the same",
    "audit_checkpoint": "the same",
    "audit_sequencerfence": "the same",
    "audit_cosignature": "telemetry (docs/adr/0035-witnesses.md)",
    "breakglass_guestapprovers": "what guests say; a change of it is an entry of its own",
    "breakglass_receipthead": "how far a guest's receipts were read; what was read is an entry",
    "provisioning_told": "a note of what a host was told, between request and step_done",
}
"""Tables, each with its reason."""

TELEMETRY_COLUMNS: dict[str, frozenset[str]] = {
    "auth_user": frozenset({"last_login"}),
    "audit_witness": frozenset({"asked_at", "problem"}),
    "provisioning_operation": frozenset(
        {"lease_owner", "lease_until", "fence", "started_at", "not_before", "holds_slot"}
        | {"wait_reason", "waiting_since"}
    ),
    "provisioning_host": frozenset(
        {"seen_at", "problem", "drift_checked_at", "egress_seen_at", "egress_problem"}
    ),
    "provisioning_runtime": frozenset(
        # What libvirt, the guest, the proxy and the keeper say.
        {"power", "power_seen_at", "usage", "usage_at", "stated", "stated_at", "trust_seen"}
        | {
            "access_closed_seen",
            "keyring_told",
            "consents_told",
            "members_refused",
            "egress_at",
            "egress_hosts",
        }
        | {"direct_at", "direct_packets", "direct_bytes", "direct_seen_packets", "direct_seen_bytes"}
        | {"drift_looked_at"}
    ),
}
"""Columns that say how things are, not what somebody decided."""

TELEMETRY_PLACES: dict[str, str] = {
    "provisioning/machine.py:_settle_direction": "queued becomes running; who cancelled has an entry of their own",
    "provisioning/steps/context.py:changing": "a step's notes, between operation.requested and operation.step_done",
}
"""Functions of the program whose writes stand between two entries."""
