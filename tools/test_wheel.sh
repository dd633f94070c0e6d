#!/bin/sh
# Build the wheel, install it into an environment of its own and use it there: a program with a cluster, the
# console scripts. Usage: tools/test_wheel.sh PYTHON (of the virtual environment, whose packages it may import).
set -eu
cd "$(dirname "$0")/.."
python=$1
rm -rf build-wheel/dist build-wheel/venv
"$python" -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
  --wheel-dir build-wheel/dist .
"$python" -m venv --without-pip build-wheel/venv
# What aktis depends on is taken from the environment that has it; its own editable install is not seen, because
# a .pth file below a directory that a .pth file names is not read.
site=$(build-wheel/venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
"$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$site/dependencies.pth"
"$python" -m pip --python build-wheel/venv/bin/python install --quiet --disable-pip-version-check --no-deps \
  --no-index --ignore-installed build-wheel/dist/*.whl

bin="$PWD/build-wheel/venv/bin"
XDG_RUNTIME_DIR=$(mktemp -d) # short, because the paths of sockets are limited
export XDG_RUNTIME_DIR
trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
cd "$XDG_RUNTIME_DIR" # away from the sources
for daemon in gcs raylet plasma; do
  "$bin/aktis-$daemon" --help > /dev/null
done
trap '"$bin/aktis" stop > /dev/null; rm -rf "$XDG_RUNTIME_DIR"' EXIT
"$bin/aktis" start --head --port 0 --num-cpus 1 --object-store-memory "64 MiB" > /dev/null
"$bin/aktis" status | grep -q ALIVE
"$bin/python" - "$bin" <<'PROGRAM'
import importlib.metadata, importlib.resources, sys
import aktis

@aktis.remote
def where():
    return aktis.__file__

with aktis.init(address="auto"):
    own, of_worker = aktis.__file__, aktis.get(where.remote())
prefix = sys.argv[1].removesuffix("bin")
assert own == of_worker and own.startswith(prefix), (own, of_worker)
for name in ("py.typed", "_core.pyi"):  # type checkers look for them
    assert importlib.resources.files(aktis).joinpath(name).is_file(), name
assert aktis.__version__ == importlib.metadata.version("aktis")
PROGRAM
