"""``python -m aktisd.supervisor``: run the daemons of one host below one small process."""

import gc
import sys

gc.disable()  # imports only allocate; the daemons enable it again after the fork

from aktisd.supervisor.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
