"""Break-glass: time-boxed access of staff to a tenant's machine, which only people's signatures can open.

The portal keeps the tickets and carries the signatures; the guest checks every one of them for itself.
"""
