#!/bin/sh
# Build the C++ tests with sanitizers and run them. Usage: tools/sanitize.sh NAME SANITIZERS
set -eu
cd "$(dirname "$0")/.."
build="build-$1"
echo "== sanitizers: $2"
[ -e "$build/build.ninja" ] || cmake -S . -B "$build" -G Ninja --log-level=WARNING \
  -DAKTIS_MODULE=OFF -DAKTIS_TESTS=ON "-DAKTIS_SANITIZE=$2"
ninja -C "$build" --quiet -j "${CMAKE_BUILD_PARALLEL_LEVEL:-2}" aktis_tests

# ThreadSanitizer of GCC 12 needs its shadow addresses free: run without address randomisation where allowed.
no_aslr=""
setarch -R true 2>/dev/null && no_aslr="setarch -R"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}"
$no_aslr ctest --test-dir "$build" --output-on-failure -j 2 --no-tests=error
