"""The rules of the comparison: channel, audit, seeds and metrics of one operating point. `bench.sweep` calls them."""
