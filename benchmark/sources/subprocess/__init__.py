"""Generators that run in a process of their own: commands, Python functions, authors' code."""
