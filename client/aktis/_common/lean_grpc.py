"""Imports gRPC as the daemons use it: the thread that waits for sockets also reads them.

By default a pool of threads reads and passes every message on to the thread that waits for it, so that
several threads wake up for one message. That costs 0.1 ms of processor time at either end, more than all else
that gRPC does for a message of ours.

gRPC knows this setting only from the environment, where it looks for it once, when it is imported; the
variable goes again, as it is not for processes that are started from here. Import this before anything that
imports gRPC. A version that no longer knows the words says so on stderr and does what it likes.
"""

import os
from typing import Final

EXPERIMENTS: Final = "GRPC_EXPERIMENTS"

if EXPERIMENTS in os.environ:  # somebody knows better
    import grpc.aio
else:
    os.environ[EXPERIMENTS] = "-event_engine_client,-event_engine_listener"
    try:
        import grpc.aio  # noqa: F401
    finally:
        del os.environ[EXPERIMENTS]
