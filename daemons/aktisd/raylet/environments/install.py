"""Virtual environments with what pip or uv install, on top of the packages that the node's workers have.

Used by the helper process only; everything here blocks.
"""

import shutil
import site
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from aktis._common.environments import Environment, Requirements

Run = Callable[[Sequence[str]], None]


def say(text: str) -> None:
    """Tell the users who wait: what the helper process prints is shown by their drivers."""
    print(text, flush=True)  # tidy: allow, see above


def install(environment: Environment, folder: Path, cwd: Path, run: Run) -> None:
    """Make a virtual environment in an existing empty folder and install the requirements into it.

    Args:
        cwd: For relative paths among the requirements.
        run: Runs a command there; raises when it fails.
    """
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    _inherit(folder)
    python = str(folder / "bin" / "python")
    requirements = folder / "requirements.txt"
    if environment.pip is not None:
        _prepare_pip(python, environment.pip.version, run)
        command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        _install(command, environment.pip, requirements, run, "pip")
    elif environment.uv is not None:
        command = [_uv(python, environment.uv.version, run), "pip"]
        _install(command, environment.uv, requirements, run, "uv", ("--python", python))


def _install(
    command: list[str], wanted: Requirements, file: Path, run: Run, tool: str, more: Sequence[str] = ()
) -> None:
    say(f"installing with {tool}: {', '.join(wanted.packages)[:1000]}")
    file.write_text("".join(f"{line}\n" for line in wanted.packages))
    run([*command, "install", *more, "-r", str(file), *wanted.options])
    if wanted.check:
        run([*command, "check", *more])


def _inherit(folder: Path) -> None:
    """Let it see, after its own packages, those of the interpreter that runs us.

    A plain ``--system-site-packages`` would skip the virtual environment that we may be in ourselves.
    """
    (target,) = folder.glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
    (target / "_aktis_inherited.pth").write_text("".join(lines))


def _prepare_pip(python: str, version: str, run: Run) -> None:
    if find_spec("pip") is None:
        run([python, "-m", "ensurepip"])
    if version:
        run([python, "-m", "pip", "--disable-pip-version-check", "install", f"pip{version}"])


def _uv(python: str, version: str, run: Run) -> str:
    """Return the command of uv: the node's, or one of the wanted version that is installed first."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found and not version:
        return found
    _prepare_pip(python, "", run)
    run([python, "-m", "pip", "--disable-pip-version-check", "install", f"uv{version}"])
    return str(Path(python).parent / "uv")
