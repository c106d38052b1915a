"""Entry point: `python -m benchmarks.sizing`."""

import sys

from benchmarks.sizing.measure import main

sys.exit(main(sys.argv[1:]))
