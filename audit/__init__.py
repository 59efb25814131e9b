"""The append-only record of who did what. Knows no other app."""
