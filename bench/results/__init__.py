"""The files of a run: how they are written, found and read. The sweep writes them; reports and
comparisons read them.
"""
