"""Settings of the whole suite."""

import os
import signal
import tempfile

from hypothesis import settings

# Machines differ, and a loaded one must not fail a test: pytest-timeout stops what hangs.
settings.register_profile("svg", deadline=None)
settings.load_profile("svg")

# What the programs note of the user goes elsewhere than into the cache of whoever runs the suite.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="svg-lp-cache-")

# A shell that starts the suite in the background ignores Ctrl-C for it, and so for the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
