"""The record as staff read it: search, live tail, one entry with its proofs, exports."""
