"""What docs/results.md says: which measurements, and the tables made of their files."""
