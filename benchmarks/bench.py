#!/usr/bin/env python3
"""See `measure/cli.py`, or --help."""

import sys

from measure.cli import main

if __name__ == "__main__":
    sys.exit(main())
