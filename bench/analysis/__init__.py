"""Statistics of finished rows: intervals, summaries, comparisons, claims. They read tables, and compute no pictures."""
