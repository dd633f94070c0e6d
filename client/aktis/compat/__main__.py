"""``python -m aktis.compat prog.py args...``: run a program with ``import ray`` resolved to Aktis."""

import runpy
import sys
from pathlib import Path

from aktis.compat import install_as_ray


def main(argv: list[str]) -> int:
    """Run the program that the first argument names; return 2 when there is none."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m aktis.compat PROGRAM [ARGUMENTS...]", file=sys.stderr)
        return 0 if argv else 2
    install_as_ray()
    sys.argv[:] = argv
    sys.path[0] = str(Path(argv[0]).resolve().parent)
    runpy.run_path(argv[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
