#!/bin/sh
# Install what a build needs: system packages and the virtual environment. Usage: tools/setup.sh PYTHON VENV
# Does nothing when its stamp says that this was already done for these inputs.
set -eu
cd "$(dirname "$0")/.."
python=$1
venv=$2

key=$( (cat pyproject.toml tools/setup.sh tools/requirements.py; command -v "$python") | sha256sum | cut -c1-16)
stamp="$venv/.setup-$key"
[ -e "$stamp" ] && exit 0

tools/apt_install.sh g++ cmake ninja-build ccache libgtest-dev libxxhash-dev python3-dev python3-venv \
  clang-format-19 redis-server
echo "setup: virtual environment in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" tools/requirements.py > "$venv/requirements.txt"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$venv/requirements.txt"
rm -f "$venv"/.setup-*
touch "$stamp"
