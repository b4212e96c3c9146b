"""Statistics over finished rows: intervals, summaries, comparisons, claims."""
