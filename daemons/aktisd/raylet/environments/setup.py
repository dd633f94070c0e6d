"""The helper process that sets one environment up: ``python -m aktisd.raylet.environments.setup``.

The raylet starts it, forwards what it prints to the drivers that wait, and reads its result from a file. It
fetches packages, unpacks them, makes a virtual environment with the wanted requirements, and tries whether
a worker template can start with all that. Entries of the cache are made under a lock, so that two set-ups
that need the same one make it once.
"""

import argparse
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from aktis._common.environments import Environment, expand_variables

from aktisd.raylet.environments.cache import WORKING_DIR_VARIABLES, install_key, source_key
from aktisd.raylet.environments.install import install, say
from aktisd.raylet.environments.sources import Sources
from aktisd.raylet.processes import die_with_parent

READY_SUFFIX: Final = ".ready"
TEMPLATE_MODULE: Final = "aktis._worker.template"


class SetupError(Exception):
    """What is wrong, for the user; the output of the tool that failed has been printed already."""


@dataclass(slots=True)
class Prepared:
    """What a template needs to know of a finished set-up."""

    python: list[str] = field(default_factory=list)
    """The command that stands for the interpreter; empty: the raylet's own."""
    working_dir: str = ""
    import_path: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    """In bytes, of the entries of the cache that it uses."""
    error: str = ""

    def write(self, path: Path) -> None:
        """Store it for the raylet: whole or not at all."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Prepared":
        """Read what `write` stored.

        Raises:
            OSError, ValueError, TypeError: there is nothing, or not that.
        """
        return cls(**json.loads(path.read_text()))


class Setup:
    """One set-up, step by step."""

    def __init__(self, environment: Environment, cache: Path, sources: Sources) -> None:
        self._environment = environment
        self._cache = cache
        self._sources = sources
        self._prepared = Prepared()
        self._environ = {**os.environ, "NO_COLOR": "1", "UV_LINK_MODE": "copy"}
        self._environ.update(expand_variables(environment.env_vars, os.environ))

    def run(self) -> Prepared:
        """Do everything.

        Raises:
            SetupError, OSError: it cannot be done.
        """
        wanted, prepared = self._environment, self._prepared
        if wanted.working_dir:
            folder = self._unpacked(wanted.working_dir, is_module=False)
            prepared.working_dir = str(folder)
            prepared.import_path.append(str(folder))
            self._environ.update(dict.fromkeys(WORKING_DIR_VARIABLES, str(folder)))
        for uri in wanted.py_modules:
            prepared.import_path.append(str(self._unpacked(uri, is_module=True)))
        if key := install_key(wanted):
            folder = self._entry(key, self._install)
            prepared.python = [str(folder / "bin" / "python")]
        elif wanted.py_executable:
            prepared.python = self._executable(wanted.py_executable)
        if prepared.python:
            self._try_template(prepared.python)
        return prepared

    def _unpacked(self, uri: str, *, is_module: bool) -> Path:
        def unpack(folder: Path) -> None:
            say(f"unpacking {uri}")
            self._sources.unpack(uri, folder, is_module=is_module)

        return self._entry(source_key(uri, is_module=is_module), unpack)

    def _install(self, folder: Path) -> None:
        cwd = Path(self._prepared.working_dir) if self._prepared.working_dir else folder
        install(self._environment, folder, cwd, lambda command: self._run(command, cwd))

    def _entry(self, key: str, build: Callable[[Path], None]) -> Path:
        folder, ready = self._cache / key, self._cache / (key + READY_SUFFIX)
        with _locked(self._cache / "locks" / key):
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what an interrupted set-up has left
                folder.mkdir()
                build(folder)
                if not folder.exists():
                    raise SetupError(f"{folder} was removed while it was made: another raylet has started")
                ready.write_text(str(_size_bytes(folder)))
            self._prepared.sizes[key] = int(ready.read_text())
        return folder

    def _executable(self, text: str) -> list[str]:
        command = shlex.split(text)
        inside = Path(self._prepared.working_dir, command[0])
        if self._prepared.working_dir and "/" in command[0] and inside.exists():
            command[0] = str(inside)
        return command

    def _try_template(self, python: list[str]) -> None:
        """Find out now, with a message, what else would be a template that dies again and again."""
        command = [*python, "-m", TEMPLATE_MODULE, "--check"]
        try:
            self._run(command, Path(self._prepared.working_dir or self._cache))
        except OSError as error:
            raise SetupError(f"{python[0]!r} cannot be started: {error.strerror}") from error
        except SetupError as error:
            raise SetupError(f"workers cannot be run by {shlex.join(python)!r}: {error}") from error

    def _run(self, command: Sequence[str], cwd: Path) -> None:
        finished = subprocess.run(
            command,
            cwd=cwd,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            check=False,
            preexec_fn=die_with_parent,
        )
        if finished.returncode != 0:
            raise SetupError(f"{shlex.join(command)!r} failed with exit code {finished.returncode}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _size_bytes(folder: Path) -> int:
    """What a folder takes on the disk."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_blocks * 512
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Set up what the order describes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="aktis-environment", description="Set a runtime environment up.")
    for name in ("--gcs", "--token-file", "--cache", "--order", "--result"):
        parser.add_argument(name, required=True)
    found = parser.parse_args(argv)
    cache, result = Path(found.cache), Path(found.result)
    die_with_parent()  # the next raylet begins with a clean cache
    try:
        environment = Environment.decode(Path(found.order).read_bytes())
        sources = Sources(found.gcs, Path(found.token_file).read_text().strip())
        prepared = Setup(environment, cache, sources).run()
    except Exception as error:  # user's packages and tools: anything can come
        if not isinstance(error, SetupError):
            traceback.print_exc()
        prepared = Prepared(error=str(error) or type(error).__name__)
    prepared.write(result)
    return 1 if prepared.error else 0


if __name__ == "__main__":
    sys.exit(main())
