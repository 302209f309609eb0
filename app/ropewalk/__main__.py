"""`python -m ropewalk`."""

import sys

from ropewalk.cli.main import main

if __name__ == "__main__":  # a spawned child imports this module again, under another name
    sys.exit(main())
