"""Timed comparisons, each by `python -m benchmarks.NAME`; docs/performance.md shows what they found."""
