"""Small helpers that know nothing of systems, data or runs: files, progress, devices, facts of the machine."""
