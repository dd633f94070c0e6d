"""``python -m aktis.compat prog.py args...``: run a program with ``import ray`` resolved to Aktis."""

import argparse
import os
import runpy
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from aktis.compat import COMPATIBLE_VERSION, install_as_ray

_USAGE = """python -m aktis.compat [--ray-version V] PROGRAM [ARGUMENTS...]
       python -m aktis.compat [--ray-version V] -m MODULE [ARGUMENTS...]
       python -m aktis.compat [--ray-version V] -c CODE [ARGUMENTS...]
       python -m aktis.compat [--ray-version V] --install | --uninstall"""


def main(argv: Sequence[str]) -> int:
    """Run what the arguments name; return 2 when they name nothing."""
    options = _parser().parse_args(argv)
    if options.install or options.uninstall:
        from aktis.compat import environment

        done = environment.install(options.ray_version) if options.install else environment.uninstall()
        print(done)
        return 0
    if not options.program:
        print(f"usage: {_USAGE}", file=sys.stderr)
        return 2
    install_as_ray(options.ray_version)
    reach_children()
    _run(options.program, "module" if options.m else "code" if options.c else "file")
    return 0


def reach_children() -> None:
    """Let the interpreters that the program starts find the alias, too."""
    folder = str(Path(__file__).parent / "children")
    known = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *known])
    sys.path.insert(1, folder)  # children of multiprocessing get this path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(usage=_USAGE, description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--ray-version",
        metavar="V",
        help=f"the release that the program is told it runs with (default: {COMPATIBLE_VERSION})",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-m", action="store_true", help="run a module, as python -m does")
    what.add_argument("-c", action="store_true", help="run the code that the next argument is")
    what.add_argument("--install", action="store_true", help="for every process of this virtual environment")
    what.add_argument("--uninstall", action="store_true", help="undo --install")
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _run(program: list[str], kind: str) -> None:
    """Do as the interpreter would, with ``sys.argv`` and ``sys.path`` as the program expects them."""
    if kind == "code":
        sys.argv[:] = ["-c", *program[1:]]
        sys.path[0] = ""
        sys.modules["__main__"] = main_module = types.ModuleType("__main__")
        exec(compile(program[0], "<string>", "exec"), main_module.__dict__)
        return
    sys.argv[:] = program
    if kind == "module":
        sys.path[0] = os.getcwd()
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(program[0]).resolve().parent)
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
