"""The papers' claims, reproduced, each by `python -m experiments.NAME`; docs/experiments.md shows them all."""
