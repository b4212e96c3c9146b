"""Training: one protocol for all learned systems (`protocol`), its pictures (`sources`, `crops`), and the loop
(`trainer`).

`python -m bench train` calls `run`.
"""
