"""``aktis-plasma`` and ``python -m aktisd.plasma``: the object store in the foreground."""

import sys

from aktis._common.daemon import daemon_main

from aktisd.plasma.service import create_service


def main() -> int:
    """Run until SIGTERM; return the exit status."""
    return daemon_main("plasma", create_service)


if __name__ == "__main__":
    sys.exit(main())
