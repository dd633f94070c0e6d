"""``aktis-gcs`` and ``python -m aktisd.gcs``: the GCS in the foreground."""

import sys

from aktis._common.daemon import daemon_main

from aktisd.gcs.service import create_service


def main() -> int:
    """Run until SIGTERM; return the exit status."""
    return daemon_main("gcs", create_service)


if __name__ == "__main__":
    sys.exit(main())
