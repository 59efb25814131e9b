"""How the parts of break-glass stand together in one guest."""

from guest.agent.breakglass.access import BreakGlass, moment
from guest.agent.breakglass.grants import Ground
from guest.agent.breakglass.marks import Marks
from guest.agent.breakglass.receipts import Chain
from guest.agent.breakglass.sessions import OperatorSessions
from guest.agent.breakglass.store import Store
from guest.agent.breakglass.terms import PinnedTerms
from guest.agent.config import Config
from guest.agent.ledger import Ledger
from guest.agent.members import Members
from guest.agent.recovery import Recovery
from guest.agent.status import boot_id


def break_glass(
    config: Config, members: Members, recovery: Recovery, ledger: Ledger, seed: bytes
) -> BreakGlass:
    """This guest's. ``seed``: of its witness key, which signs the head of the receipts.

    Raises:
        FileDamaged, sqlite3.Error, OSError: what is on the volume cannot be used.
    """
    tenant_id = config.personalisation.tenant_id
    ground = Ground(
        members=members,
        recovery=recovery,
        terms=PinnedTerms(config.data, members, tenant_id, config.site),
        tenant_id=tenant_id,
        runtime_id=config.runtime_id,
        site=config.portal_site,
        clock_is_right=ledger.clock_is_right,
    )
    store = Store(config.data)
    chain = Chain(store, config.runtime_id, seed)
    sessions = OperatorSessions(config.own_site)
    return BreakGlass(store, chain, ground, sessions, boot_id(), Marks(config.data), moment)
