"""Jobs: what members ask the machine to do, and how it went (docs/jobs.md, docs/adr/0019-jobs.md)."""
