"""Measurements of what a model can do with a long context."""
