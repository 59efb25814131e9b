"""No-go probes: functions that look at the live fleet and answer pass or fail, with evidence (docs/drift.md).

`examine()` never raises and ends in bounded time. What could not be looked at has not passed.
"""

from provisioning.no_go.probes import PROBES
from provisioning.no_go.run import examine
from provisioning.no_go.verdicts import Verdict

__all__ = ["PROBES", "Verdict", "examine"]
