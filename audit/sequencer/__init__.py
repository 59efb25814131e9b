"""The sequencer: gives committed entries their place in the Merkle tree, and signs its head.

The only writer of leaves, tiles and checkpoints, in a process of its own that alone holds the log's key.
"""

from audit.sequencer.trouble import TroubleError
from audit.sequencer.turn import BusyError, FencedError
from audit.sequencer.work import Sequencer, sequence_once

__all__ = ["BusyError", "FencedError", "Sequencer", "TroubleError", "sequence_once"]
