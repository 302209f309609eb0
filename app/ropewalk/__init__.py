"""Ropewalk: long documents on local models, with context extension baked into the model file."""
