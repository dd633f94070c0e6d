"""Virtual environments for published programs: pinned packages of each, our wheel, and no package ray.

They lie below build/ and are made anew only when the pins or the wheel change.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = Path(__file__).parent
_BUILD: Final = ROOT / "build" / "programs"
_SOURCES: Final = ("client/aktis", "daemons", "cpp", "proto", "cmake", "CMakeLists.txt", "pyproject.toml")
_GENERATED: Final = ("_proto", "__pycache__", "tests", "fuzz")
TIMEOUT_S: Final = 1500
UV: Final = Path(sys.executable).with_name("uv")


def prepare(name: str) -> Path:
    """Return the interpreter of the environment of tests/programs/``name``, made if need be."""
    requirements = PROGRAMS / name / "requirements.txt"
    wheel = build_wheel()
    python = _BUILD / name / "bin" / "python"
    stamp = _BUILD / name / "prepared"
    inputs = _digest([requirements, wheel])
    if stamp.exists() and stamp.read_text() == inputs:
        return python
    stamp.unlink(missing_ok=True)
    if not python.exists():
        _run(UV, "venv", "--quiet", "--python", sys.executable, _BUILD / name)
    install = (UV, "pip", "install", "--quiet", "--python", python)
    _run(*install, "--reinstall-package", "aktis", "-r", requirements, wheel)
    stamp.write_text(inputs)
    return python


@cache
def build_wheel() -> Path:
    """Return the wheel of the working tree, built if anything that goes into it has changed."""
    folder = _BUILD / "wheel"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "sources"
    inputs = _digest(path for source in _SOURCES for path in _files(ROOT / source))
    if not stamp.exists() or stamp.read_text() != inputs:
        for old in folder.glob("*.whl"):
            old.unlink()
        build = ("-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", folder)
        _run(sys.executable, *build, ROOT)
        stamp.write_text(inputs)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _files(source: Path) -> Iterable[Path]:
    if source.is_file():
        return [source]
    files = (path for path in sorted(source.rglob("*")) if path.is_file() and path.suffix != ".so")
    return [path for path in files if not set(path.relative_to(source).parts) & set(_GENERATED)]


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    env = dict(os.environ)
    if "PIP_FIND_LINKS" in env:  # uv looks where pip looks: for PyTorch without CUDA, for one
        env.setdefault("UV_FIND_LINKS", ",".join(env["PIP_FIND_LINKS"].split()))
    finished = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=env)
    assert finished.returncode == 0, f"{' '.join(words)} failed:\n{finished.stdout}{finished.stderr}"
