"""What a user asks for: figures, budgets, SNR grids, and which system exactly is meant."""
