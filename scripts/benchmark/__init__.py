"""What `scripts/bench.py` measures, and how: two builds of the library, plans, windows, in turns."""
