"""Data sets: how each is obtained and prepared, the clip store that all of them write, and sampling from it."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m data.NAME` is looking for the program, and begins to load what it needs
    from data.program import quiet_while_loading

    quiet_while_loading()
