"""Settings of the whole suite."""

from hypothesis import settings

# Machines differ, and a loaded one must not fail a test: pytest-timeout stops what hangs.
settings.register_profile("svg", deadline=None)
settings.load_profile("svg")
