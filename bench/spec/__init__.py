"""The request of a user: figures, budgets, SNR grids, and the exact identity of each system.

Commands call it before they start.
"""
