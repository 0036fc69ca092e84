"""``python -m benchmarks``: see ``benchmarks.harness.cli``."""

import signal
import sys

from benchmarks.harness.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    sys.exit(main())
