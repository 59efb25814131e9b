"""Drift: what hosts show, compared with what they were told; and what follows (docs/drift.md).

`findings`, `machine` and `surroundings` are pure. `check` reads hosts and database and writes what was found.
"""
