"""The commands: each takes the context and its arguments, and answers the exit status."""
