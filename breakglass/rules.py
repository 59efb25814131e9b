"""What the database refuses of tickets and of those who approve them, as conditions in SQL for each engine.

A ticket goes only where the table of transitions leads, is approved and begun only with as many approvals of
its present revision as its set asks for, runs as long as was asked, and is kept once it is over. An approval
is taken only by a key of the ticket's set, of somebody else than the requester, for the revision that waits.
A passkey stays its holder's, a review is written once, and evidence stays.
"""

from collections.abc import Mapping

_STEPS = (
    "OLD.state = NEW.state AND OLD.state IN ('pending', 'approved', 'active')",
    "OLD.state = 'pending' AND NEW.state IN ('approved', 'rejected', 'withdrawn', 'timed_out', 'revoked')",
    "OLD.state = 'approved' AND NEW.state IN ('pending', 'active', 'withdrawn', 'timed_out', 'revoked')",
    "OLD.state = 'active' AND NEW.state IN ('ended', 'expired', 'revoked')",
)
"""As :data:`breakglass.transitions.TABLE` has them, in SQL; a test compares the two."""

_FIXED = ("id", "tenant_id", "runtime_id", "requester_id", "kind", "asked_at", "wait_until")
_ASKED = ("passkey_id", "approvers_set_id", "needed", "seconds")
_COURSE = (
    *("state", "revision", "needs_owner", "approved_at", "started_at", "access_until", "ended_at"),
    *("ended_by_id", "ending", "words"),
)
_OVER = "OLD.state NOT IN ('pending', 'approved', 'active')"


def _same(*columns: str) -> str:
    return " AND ".join(f"NEW.{name} IS NOT DISTINCT FROM OLD.{name}" for name in columns)


_TICKET_START: Mapping[str, str] = {
    "postgresql": "NEW.wait_until <= NEW.asked_at + interval '4 hours' "
    "AND NEW.asked_at BETWEEN clock_timestamp() - interval '15 minutes' "
    "AND clock_timestamp() + interval '2 minutes'",
    "sqlite": "(julianday(NEW.wait_until) - julianday(NEW.asked_at)) * 86400 <= 14400.01 "
    "AND (julianday('now') - julianday(NEW.asked_at)) * 1440 BETWEEN -2 AND 15",
}

_OWN_KEY = (
    "EXISTS (SELECT 1 FROM breakglass_passkey k WHERE k.id = NEW.passkey_id "
    "AND k.user_id = NEW.requester_id AND k.retired_at IS NULL AND k.cloned_at IS NULL)"
)
_NO_DEBT = (
    "NOT EXISTS (SELECT 1 FROM breakglass_ticket e LEFT JOIN breakglass_review r ON r.ticket_id = e.id "
    "WHERE e.requester_id = NEW.requester_id AND e.kind = 'emergency' AND e.id <> NEW.id "
    "AND (e.state = 'active' OR (r.id IS NOT NULL AND r.closed_at IS NULL)))"
)
"""No emergency of the requester runs or lacks its review: :func:`breakglass.selectors.emergency_debt`."""

_TICKET_INSERT: Mapping[str, str] = {
    engine: f"NEW.state = 'pending' AND NEW.revision = 1 AND {_OWN_KEY} AND {_NO_DEBT} AND {times}"
    for engine, times in _TICKET_START.items()
}

_SCOPES: Mapping[str, tuple[str, str]] = {
    # What the policy is asked for, as rows of one column; and the number that it gives for one of them.
    "postgresql": (
        "jsonb_array_elements_text(CASE WHEN NEW.kind = 'emergency' THEN '[\"emergency\"]'::jsonb "
        "ELSE v.document->'scopes' END) AS w(value)",
        "(s.document->'policy'->>w.value)::int",
    ),
    "sqlite": (
        "json_each(CASE WHEN NEW.kind = 'emergency' THEN '[\"emergency\"]' "
        "ELSE json_extract(v.document, '$.scopes') END) AS w",
        "json_extract(s.document, '$.policy.\"' || w.value || '\"')",
    ),
}
_MEMBERS: Mapping[str, tuple[str, str, str]] = {
    # Kind and seconds of a revision's document; what the terms say for the ticket's kind.
    "postgresql": ("v.document->>'kind'", "(v.document->>'seconds')::int", "t.document->>(NEW.kind::text)"),
    "sqlite": (
        "json_extract(v.document, '$.kind')",
        "json_extract(v.document, '$.seconds')",
        "json_extract(t.document, '$.' || NEW.kind)",
    ),
}


def _enough(engine: str) -> str:
    """Quorum, set and terms, as :mod:`breakglass.transitions` asks them. Signatures are not looked at."""
    scopes, number = _SCOPES[engine]
    kind, seconds, mode = _MEMBERS[engine]
    people = (
        "(SELECT count(DISTINCT a.person) FROM breakglass_approval a "
        "JOIN breakglass_passkey k ON k.id = a.passkey_id JOIN auth_user u ON u.id = k.user_id "
        "WHERE a.ticket_id = NEW.id AND a.revision = NEW.revision AND k.user_id <> NEW.requester_id "
        "AND k.retired_at IS NULL AND k.cloned_at IS NULL AND u.is_active AND u.is_staff)"
    )
    # Of the set that the ticket names, which is the newest there is; NULL, and so a refusal, without one.
    wanted = (
        f"(SELECT max({number}) FROM breakglass_revision v JOIN breakglass_approversetversion s "  # noqa: S608 - words of ours
        f"ON s.id = NEW.approvers_set_id CROSS JOIN {scopes} WHERE v.ticket_id = NEW.id "
        f"AND v.revision = NEW.revision AND {kind} = NEW.kind AND {seconds} = NEW.seconds "
        "AND NOT EXISTS (SELECT 1 FROM breakglass_approversetversion n WHERE n.version > s.version))"
    )
    terms = (
        f"CASE coalesce((SELECT {mode} FROM breakglass_termsversion t WHERE t.tenant_id = NEW.tenant_id "  # noqa: S608 - words of ours
        "ORDER BY t.version DESC LIMIT 1), 'approvers') WHEN 'approvers' THEN 1 = 1 "
        "WHEN 'owner' THEN EXISTS (SELECT 1 FROM breakglass_ownerapproval o WHERE o.ticket_id = NEW.id "
        "AND o.revision = NEW.revision) ELSE 1 = 0 END"
    )
    return f"{people} >= NEW.needed AND NEW.needed >= {wanted} AND {terms}"


_RUNS: Mapping[str, str] = {
    "postgresql": "NEW.access_until = NEW.started_at + NEW.seconds * interval '1 second' "
    "AND NEW.started_at <= clock_timestamp() + interval '2 minutes'",
    "sqlite": "abs((julianday(NEW.access_until) - julianday(NEW.started_at)) * 86400 - NEW.seconds) < 0.01 "
    "AND (julianday(NEW.started_at) - julianday('now')) * 1440 <= 2",
}
"""Access lasts as long as was asked, from now on."""


def _change(engine: str) -> str:
    return (
        f"({_same(*_FIXED)}) AND (CASE WHEN {_OVER} THEN {_same(*_ASKED, *_COURSE)} "
        f"ELSE ({' OR '.join(f'({one})' for one in _STEPS)}) "
        # Another revision starts again: none of its approvals is there yet.
        "AND ((NEW.revision = OLD.revision + 1 AND NEW.state = 'pending' AND OLD.state <> 'active' "
        f"AND {_OWN_KEY} AND {_NO_DEBT}) "
        f"OR (NEW.revision = OLD.revision AND {_same(*_ASKED)} "
        "AND NOT (OLD.state = 'approved' AND NEW.state = 'pending'))) "
        f"AND (OLD.state <> 'active' OR ({_same('approved_at', 'started_at', 'access_until')})) "
        f"AND (NEW.state = OLD.state OR NEW.state NOT IN ('approved', 'active') OR ({_enough(engine)})) "
        f"AND (NEW.state = OLD.state OR NEW.state <> 'active' OR ({_RUNS[engine]} AND {_NO_DEBT})) END)"
    )


_IN_THE_SET: Mapping[str, str] = {
    "postgresql": "EXISTS (SELECT 1 FROM jsonb_array_elements(s.document->'approvers') e "
    "WHERE e->>'public_key' = k.public_key AND e->>'person' = NEW.person)",
    "sqlite": "EXISTS (SELECT 1 FROM json_each(s.document, '$.approvers') e "
    "WHERE json_extract(e.value, '$.public_key') = k.public_key "
    "AND json_extract(e.value, '$.person') = NEW.person)",
}

_VERDICT: Mapping[str, str] = {
    engine: "EXISTS (SELECT 1 FROM breakglass_ticket t JOIN breakglass_passkey k "  # noqa: S608 - words of ours
    "ON k.id = NEW.passkey_id JOIN breakglass_approversetversion s ON s.id = t.approvers_set_id "
    "WHERE t.id = NEW.ticket_id AND t.revision = NEW.revision AND t.state = 'pending' "
    "AND k.user_id <> t.requester_id AND NEW.person = 'user:' || k.user_id "
    "AND NEW.person <> 'user:' || t.requester_id AND k.retired_at IS NULL AND k.cloned_at IS NULL "
    f"AND {in_the_set})"
    for engine, in_the_set in _IN_THE_SET.items()
}

_PASSKEY_CHANGE = (
    f"({_same('id', 'user_id', 'public_key', 'credential_id', 'fingerprint', 'registered_at')}) "
    "AND NEW.counter >= OLD.counter "
    "AND (OLD.retired_at IS NULL OR NEW.retired_at IS NOT DISTINCT FROM OLD.retired_at) "
    "AND (OLD.cloned_at IS NULL OR NEW.cloned_at IS NOT DISTINCT FROM OLD.cloned_at)"
)

_OWNERS = (
    "EXISTS (SELECT 1 FROM breakglass_ticket t JOIN tenants_membership m ON m.tenant_id = t.tenant_id "
    "WHERE t.id = NEW.ticket_id AND t.revision = NEW.revision AND t.state IN ('pending', 'approved') "
    "AND m.role = 'owner' AND NEW.person = 'user:' || m.user_id)"
)
_REVIEW_BEGINS = (
    "NEW.closed_at IS NULL AND EXISTS (SELECT 1 FROM breakglass_ticket t WHERE t.id = NEW.ticket_id "
    "AND t.started_at IS NOT NULL AND t.ended_at IS NOT NULL)"
)
_REVIEW_CHANGE = (
    f"({_same('id', 'ticket_id')}) AND NEW.due_at <= OLD.due_at AND OLD.closed_at IS NULL "  # noqa: S608 - words of ours
    "AND (NEW.closed_at IS NULL OR EXISTS (SELECT 1 FROM breakglass_ticket t WHERE t.id = NEW.ticket_id "
    "AND t.requester_id = NEW.closed_by_id))"
)
_PROPOSAL_CHANGE = (
    f"({_same('id', 'version', 'document', 'hash', 'by_id', 'at')}) AND (OLD.state = 'open' "  # noqa: S608 - words of ours
    "OR NEW.state = OLD.state) AND (NEW.state <> 'accepted' OR EXISTS "
    "(SELECT 1 FROM breakglass_approversetversion s WHERE s.version = NEW.version AND s.hash = NEW.hash))"
)
_MISMATCH_CHANGE = (
    f"({_same('id', 'runtime_id', 'kind', 'ticket', 'token', 'seq', 'found_at')}) "
    "AND OLD.acknowledged_at IS NULL"
)

_BOTH = ("postgresql", "sqlite")
_NEVER = dict.fromkeys(_BOTH, "1 = 0")


def _alike(condition: str) -> Mapping[str, str]:
    """One that both engines read."""
    return dict.fromkeys(_BOTH, condition)


RULES: tuple[tuple[str, str, Mapping[str, str], str], ...] = (
    ("breakglass_ticket", "UPDATE", {one: _change(one) for one in _BOTH}, "a ticket takes no such step"),
    ("breakglass_ticket", "INSERT", _TICKET_INSERT, "a ticket begins as one that waits, and in its time"),
    ("breakglass_ticket", "DELETE", _NEVER, "tickets are kept"),
    ("breakglass_approval", "INSERT", _VERDICT, "this key may not approve this revision"),
    ("breakglass_rejection", "INSERT", _VERDICT, "this key may not reject this revision"),
    ("breakglass_ownerapproval", "INSERT", _alike(_OWNERS), "no owner of this tenant, or another revision"),
    ("breakglass_passkey", "UPDATE", _alike(_PASSKEY_CHANGE), "a passkey stays its holder's"),
    ("breakglass_passkey", "DELETE", _NEVER, "passkeys are retired, never removed"),
    ("breakglass_review", "INSERT", _alike(_REVIEW_BEGINS), "a review begins open, once access is over"),
    ("breakglass_review", "UPDATE", _alike(_REVIEW_CHANGE), "a review is written once, by its requester"),
    ("breakglass_review", "DELETE", _NEVER, "reviews are kept"),
    ("breakglass_setproposal", "UPDATE", _alike(_PROPOSAL_CHANGE), "what is proposed stays as it is"),
    ("breakglass_setproposal", "DELETE", _NEVER, "proposals are kept"),
    ("breakglass_mismatch", "UPDATE", _alike(_MISMATCH_CHANGE), "a mismatch is acknowledged once"),
    ("breakglass_mismatch", "DELETE", _NEVER, "mismatches are kept"),
    ("breakglass_receipthead", "DELETE", _NEVER, "heads of receipts are kept"),
)
"""Table, deed, what must hold by engine (an SQL condition over OLD and NEW), what is said if it does not."""
