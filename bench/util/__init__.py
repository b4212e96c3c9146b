"""Small helpers without knowledge of the bench."""
