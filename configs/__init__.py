"""TOML files, read through `importlib.resources`: one a figure, one a model size, one a training protocol."""
