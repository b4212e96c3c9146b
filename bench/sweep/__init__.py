"""From a plan of cells to finished tables: workers, engines, resumption."""
