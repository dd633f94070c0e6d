"""In the daemons no pool of threads reads sockets for the thread that waits for them."""

import subprocess
import sys

CALLS = 200
PROGRAM = f"""
import asyncio, os
from pathlib import Path

from aktis._common import lean_grpc
assert "GRPC_EXPERIMENTS" not in os.environ
import grpc.aio
from aktis._common import rpc

def switches():
    tasks = [t for t in Path("/proc/self/task").iterdir() if "event_engine" in (t / "comm").read_text()]
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

async def main():
    server = grpc.aio.server()
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {{"Echo": echo}}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with rpc.connect(f"127.0.0.1:{{port}}", "token") as channel:
        for _ in range({CALLS}):
            assert await channel.unary_unary("/Echo/Echo")(b"hello", timeout=60) == b"hello"
        print(switches())
    await server.stop(None)

asyncio.run(main())
"""


def test_the_pool_does_not_wake_up_for_messages() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < CALLS, "it wakes up six times for a call otherwise"
    assert run.stderr == ""
