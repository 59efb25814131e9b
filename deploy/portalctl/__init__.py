"""Brings the portal up on one machine, and takes it down again.

Standard library only: it runs before the venv exists.
"""
