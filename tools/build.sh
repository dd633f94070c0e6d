#!/bin/sh
# Editable install, then incremental builds. Usage: tools/build.sh PYTHON (of the virtual environment).
# pip runs only when what it reads has changed; otherwise ninja alone brings the module and stubs up to date.
set -eu
cd "$(dirname "$0")/.."
python=$1

key=$( (cat pyproject.toml tools/build.sh; echo "$python") | sha256sum | cut -c1-16)
# In the environment, so that neither a new environment nor a removed build directory is taken for installed.
stamp="$(dirname "$python")/../.installed-$key"
if [ -e "$stamp" ] && [ -e build/build.ninja ]; then
  exec ninja -C build --quiet -j "${CMAKE_BUILD_PARALLEL_LEVEL:-2}"
fi
echo "build: editable install"
"$python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
  --config-settings=cmake.define.AKTIS_TESTS=ON -e .
rm -f "$(dirname "$python")"/../.installed-*
touch "$stamp"
