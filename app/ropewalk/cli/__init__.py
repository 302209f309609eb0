"""The `ropewalk` command: one module per verb."""
