"""Measures what the bench and its systems cost in time, memory and operations. `python -m bench perf` calls it."""
