#!/bin/sh
# Install what a build needs: system packages (Debian, as root or with sudo) and the virtual environment.
# Usage: tools/setup.sh PYTHON VENV. Does nothing when the stamp says that this was done for these inputs.
set -eu
cd "$(dirname "$0")/.."
python=$1
venv=$2
packages="g++ cmake ninja-build ccache libgtest-dev libxxhash-dev python3-dev python3-venv clang-format-19"

key=$( (cat pyproject.toml tools/setup.sh tools/requirements.py; command -v "$python") | sha256sum | cut -c1-16)
stamp="$venv/.setup-$key"
[ -e "$stamp" ] && exit 0

missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  echo "setup: installing system packages:$missing"
  if [ "$(id -u)" = 0 ]; then sudo=""; elif command -v sudo >/dev/null; then sudo=sudo; else
    echo "setup: not root and no sudo: install these packages, then run make again:$missing" >&2
    exit 1
  fi
  $sudo apt-get update -qq
  # shellcheck disable=SC2086  # a list of words on purpose
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
fi

echo "setup: virtual environment in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" tools/requirements.py > "$venv/requirements.txt"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$venv/requirements.txt"
rm -f "$venv"/.setup-*
touch "$stamp"
