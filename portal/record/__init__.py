"""A tenant's own part of the record, as its people read it, and the proofs that it is in the log."""
