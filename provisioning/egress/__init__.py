"""The guests' way out: rule documents, and the keeper of a host's proxy. Knows no Django, no libvirt."""
