"""One HTML file that shows everything a run holds: `python -m bench report` calls `write_report`.

The file opens from disk and asks nobody for anything: data, script, style and the chart library are inside it. The
chart library is uPlot (MIT, 50 KB): it draws bands, gaps and tens of thousands of points without help, and its size
keeps a report small enough to be sent by mail.
"""

from bench.report.html.build import write_report

__all__ = ["write_report"]
