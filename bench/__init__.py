"""Measurements. Figures are distributions taken in one run; nothing is asserted."""
