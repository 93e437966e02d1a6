"""Standing checks of what is promised in docs/reliability.md: damaged inputs (fuzz.py) and kills (kill.py)."""
