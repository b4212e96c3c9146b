"""One HTML file that shows everything in a run: `python -m bench report` calls `write_report`.

The file can be opened from disk, and loads nothing from elsewhere: data, script, style and the chart library are inside
it. The chart library is uPlot (MIT, 50 KB). It draws bands, gaps and tens of thousands of points by itself, and it is
small enough that a report can be sent by mail.
"""

from bench.report.html.build import write_report

__all__ = ["write_report"]
