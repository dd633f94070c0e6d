#!/bin/sh
# Run every libFuzzer target of cpp/fuzz for FUZZ_SECONDS (default 30), from its committed seeds.
# New inputs are kept in build-fuzz/found/NAME, crashes in build-fuzz/crashes. Usage: tools/fuzz.sh [NAME...]
set -eu
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-30}
tools/apt_install.sh clang-19 libclang-rt-19-dev
[ -e build-fuzz/build.ninja ] || cmake -S . -B build-fuzz -G Ninja --log-level=WARNING \
  -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo -DAKTIS_MODULE=OFF -DAKTIS_FUZZ=ON
ninja -C build-fuzz --quiet -j "${CMAKE_BUILD_PARALLEL_LEVEL:-2}" aktis_fuzz

if [ $# = 0 ]; then
  for source in cpp/fuzz/*.cc; do
    [ -e "$source" ] && set -- "$@" "$(basename "$source" .cc)"
  done
fi
[ $# -gt 0 ] || { echo "fuzz: no target in cpp/fuzz" >&2; exit 1; }
mkdir -p build-fuzz/crashes
for name in "$@"; do
  seeds="cpp/fuzz/corpus/$name"
  [ -n "$(ls "$seeds" 2>/dev/null)" ] || { echo "fuzz: $seeds has no seed input; commit some" >&2; exit 1; }
  mkdir -p "build-fuzz/found/$name"
  echo "== fuzz $name for $seconds s"
  "build-fuzz/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="build-fuzz/crashes/$name-" "build-fuzz/found/$name" "$seeds"
done
