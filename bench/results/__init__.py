"""The files of a run: how they are written, found and read."""
