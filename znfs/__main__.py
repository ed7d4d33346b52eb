"""`python -m znfs`."""

import sys

from znfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
