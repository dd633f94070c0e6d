"""Generate the gRPC stubs and their types from the contracts in proto/aktis/v1.

The contracts import one another as ``aktis/v1/name.proto``; the stubs live in the flat package
``aktis._proto`` (``from aktis._proto import gcs_pb2, gcs_pb2_grpc``). protoc derives Python imports from the
path of each file, so the files are staged under ``aktis/_proto`` with their imports rewritten before it runs.

Usage: ``python tools/generate_protos.py`` (CMake passes other directories for a wheel).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT = re.compile(r'^(\s*import\s+(?:public\s+)?)"aktis/v1/([^"/]+\.proto)"', re.MULTILINE)
PACKAGE_DOC = '"""Generated from proto/aktis/v1 by tools/generate_protos.py; never committed."""\n'


def stage(proto_dir: Path, staging: Path) -> list[str]:
    """Copy every contract to ``staging/aktis/_proto``; return their paths relative to ``staging``."""
    target = staging / "aktis" / "_proto"
    target.mkdir(parents=True)
    names = []
    for source in sorted(proto_dir.glob("*.proto")):
        text = IMPORT.sub(r'\1"aktis/_proto/\2"', source.read_text())
        (target / source.name).write_text(text)
        names.append(f"aktis/_proto/{source.name}")
    if not names:
        raise SystemExit(f"generate_protos: no .proto file in {proto_dir}; pass --proto-dir")
    return names


def run_protoc(staging: Path, names: list[str], out: Path) -> None:
    """Run protoc with the Python, gRPC and mypy plugins of the running interpreter's environment."""
    bundled = resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}={out}" for kind in ("python_out", "grpc_python_out")]
    outputs += [f"--{kind}=quiet:{out}" for kind in ("mypy_out", "mypy_grpc_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{staging}", f"-I{bundled}", *outputs, *names]
    # The mypy plugins are console scripts beside the interpreter, which need not be on PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    result = subprocess.run(command, env={**os.environ, "PATH": path}, check=False)
    if result.returncode != 0:
        raise SystemExit(f"generate_protos: protoc failed with status {result.returncode} (messages above)")


def publish(generated: Path, package_dir: Path) -> None:
    """Make ``package_dir`` equal to ``generated``, leaving files that did not change untouched."""
    (generated / "__init__.py").write_text(PACKAGE_DOC)
    package_dir.mkdir(parents=True, exist_ok=True)
    fresh = {path.name: path for path in generated.iterdir()}
    for old in package_dir.iterdir():
        if old.is_file() and old.name not in fresh:
            old.unlink()
    for name, path in fresh.items():
        target = package_dir / name
        if not target.exists() or target.read_bytes() != path.read_bytes():
            shutil.copyfile(path, target)


def main() -> None:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description="Generate aktis._proto from proto/aktis/v1.")
    parser.add_argument("--proto-dir", type=Path, default=ROOT / "proto" / "aktis" / "v1")
    parser.add_argument("--package-dir", type=Path, default=ROOT / "client" / "aktis" / "_proto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aktis-protos-") as scratch:
        staging, out = Path(scratch) / "in", Path(scratch) / "out"
        out.mkdir()
        run_protoc(staging, stage(options.proto_dir, staging), out)
        publish(out / "aktis" / "_proto", options.package_dir)


if __name__ == "__main__":
    main()
