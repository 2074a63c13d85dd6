"""Compiled loops. Nothing imports them until they run: numba takes half a second to load."""
