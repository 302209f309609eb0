"""What set-up does, in steps: tools, the patched library, the environment, the demo model.

Runs on a bare Python 3.10 or newer: nothing here imports more than the standard library
(the one exception, `patches`, is run by the interpreter of the build tools).
"""
