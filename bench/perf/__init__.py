"""What the bench costs: measured, with the machine beside it."""
