"""The guests' way out: rule documents, the keeper of a host's proxy, and the worker's dealings with it.

What the keeper's process loads knows no Django and no libvirt; `delivery`, `collecting` and what they load
are a worker's.
"""
