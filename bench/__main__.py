"""Runs the command line for `python -m bench`."""

from bench.cli import main

if __name__ == "__main__":  # worker processes import this module under another name
    main()
