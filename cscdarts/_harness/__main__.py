"""`python -m cscdarts._harness -m MODULE ...`: as `python -m MODULE ...`, with the harness at hand.

Where the package is installed, jobs and workers start so.
"""

import runpy
import sys

from cscdarts._harness import open_harness

if __name__ == "__main__":
    words = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]  # python itself has been told
    if len(words) < 2 or words[0] != "-m":
        sys.exit("usage: python -m cscdarts._harness -m MODULE [ARGUMENT...]")
    open_harness()
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
