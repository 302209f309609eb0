"""What is checked whenever the patch changes: `scripts/check_patch` and `scripts/gpu_check` are made of it.

Not part of the tests: these build all of llama.cpp, several times, and keep what they built in the cache.
"""
