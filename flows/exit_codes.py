"""How the command can end: what a script reads."""

OK, SOME_REFUSED, USAGE, LOCKED, BROKEN, INTERRUPTED = 0, 1, 2, 3, 4, 130
