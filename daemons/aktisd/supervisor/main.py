"""The supervisor's command line, and the imports that its daemons share."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

# What the daemons need is imported here, once for all of them, before the first fork.
import uvloop  # noqa: F401
from aktis import _core  # noqa: F401
from aktis._common import lean_grpc  # noqa: F401
from aktis._common.config import AktisConfig, load_config
from aktis._common.errors import StartError
from aktis._common.logging import configure_logging
from aktis._common.paths import new_token, write_token
from aktis._proto import gcs_pb2_grpc, plasma_pb2_grpc, raylet_pb2_grpc  # noqa: F401

from aktisd.supervisor.child import DaemonSpec, freeze_heap
from aktisd.supervisor.shell import Options, Supervisor

STOP_ORDER: Final = ("raylet", "plasma", "gcs")
EXIT_CANNOT_START: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run, return the exit status."""
    description = "Run the daemons of one host below one small process."
    parser = argparse.ArgumentParser(prog="aktis-supervisor", description=description)
    parser.add_argument("--session-dir", required=True, type=Path, help="private directory for everything")
    parser.add_argument("--config", type=Path, help="TOML file; default /etc/aktis/aktis.toml when it exists")
    parser.add_argument("--settings", type=json.loads, default={}, help='JSON, e.g. {"raylet.num_cpus": 2}')
    parser.add_argument("--parent-fd", type=int, help="pidfd or pipe: stop when it becomes readable")
    parser.add_argument(
        "--ready-fd", type=int, help="write one line of JSON here when all is ready, or why not"
    )
    parser.add_argument("--current-file", type=Path, help="record of the user's current cluster to maintain")
    parser.add_argument("--keep-session-dir", action="store_true", help="keep the directory after a failure")
    options = parser.parse_args(argv)
    try:
        config = _load(options.config, options.session_dir, options.settings)
    except StartError as error:
        return _cannot_start(options.ready_fd, str(error))
    configure_logging("supervisor", level=config.logging.level)
    specs = [DaemonSpec(name, _create_service(name)) for name in STOP_ORDER]
    freeze_heap()
    run_options = Options(options.parent_fd, options.ready_fd, options.current_file, options.keep_session_dir)
    return Supervisor(config, specs, run_options).run()


def _load(file: Path | None, session_dir: Path, settings: dict[str, object]) -> AktisConfig:
    config = load_config(file, flags={**settings, "paths.session_dir": str(session_dir)}).config
    try:
        config.layout().create()
        if not config.token_file.exists():
            write_token(config.token_file, new_token())
    except OSError as error:
        raise StartError(
            f"{error.filename}: {error.strerror}: choose a directory that this user can write"
        ) from None
    except ValueError as error:
        raise StartError(str(error)) from None
    return config


def _create_service(name: str) -> Any:
    return importlib.import_module(f"aktisd.{name}.service").create_service


def _cannot_start(ready_fd: int | None, message: str) -> int:
    for line in message.splitlines():
        sys.stderr.write(f"aktis-supervisor: error: {line}\n")
    if ready_fd is not None:
        report = {"status": "error", "daemon": "", "message": message, "log": []}
        os.write(ready_fd, json.dumps(report).encode() + b"\n")
    return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
