"""A run: from a plan of cells to finished tables, with workers, engines and resuming. Start with `execute`."""
