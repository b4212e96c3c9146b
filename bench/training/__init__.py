"""Training: one protocol for all learned systems (`protocol`), its pictures (`pictures`), and the loop (`loop`)."""
