"""What a user asks for: figures, budgets, SNR grids, and which systems exactly. Commands call it before they start."""
