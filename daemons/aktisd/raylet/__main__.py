"""``python -m aktisd.raylet`` and the command ``aktis-raylet``."""

import sys

from aktis._common.daemon import daemon_main

from aktisd.raylet.service import create_service


def main() -> int:
    """Run the raylet in the foreground."""
    return daemon_main("raylet", create_service)


if __name__ == "__main__":
    sys.exit(main())
