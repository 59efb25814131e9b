"""What the operator runs: `make up` and its siblings (portalctl), and files for real machines."""
