"""What the record costs: per change, per second, until it is signed, to verify, to prove and to search."""
