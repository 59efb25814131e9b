"""Every write to tickets, to who may approve them, and to what owners allow."""
