"""Whether the record in the database is still what was written, sequenced, signed and witnessed."""

from audit.verification.findings import NAMES, Finding, Findings
from audit.verification.run import Report, verify

__all__ = ["NAMES", "Finding", "Findings", "Report", "verify"]
