# Everything a developer or CI runs; CONTRIBUTING.md explains. Each target sets up what it needs by itself.
#   PYTHON=python3.11     interpreter for the virtual environment .venv
#   PYTEST_ARGS="-k name" further arguments for the Python tests; so DEMO_ARGS, BENCH_ARGS, CONFORMANCE_ARGS
PYTHON ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
CONFORMANCE_ARGS ?=
FUZZ_SECONDS ?= 30
VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2

PY_DIRS := $(wildcard client daemons tests tools benchmarks examples)
CPP_FILES = $(shell find cpp -name '*.cc' -o -name '*.h')

.DEFAULT_GOAL := build
.PHONY: setup build test test-unit test-cpp test-wheel lint types imports tidy format sanitize fuzz demo bench conformance programs clean

setup:
	@tools/setup.sh "$(PYTHON)" "$(VENV)"

build: setup
	@tools/build.sh "$(PY)"

# The Python tests come last, in one run, so that the last line counts them all.
test: lint types imports tidy test-cpp test-wheel
	@echo "== python tests"
	$(PY) -m pytest -n 2 $(PYTEST_ARGS)

test-unit: build
	$(PY) -m pytest -n 2 tests/unit $(PYTEST_ARGS)

test-cpp: build
	@echo "== c++ tests"
	@ninja -C build --quiet -j $(CMAKE_BUILD_PARALLEL_LEVEL) aktis_tests
	@ctest --test-dir build --output-on-failure -j 2 --no-tests=error

test-wheel: build
	@echo "== wheel"
	@tools/test_wheel.sh "$(PY)"

lint: build
	@echo "== lint"
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --quiet --check .
	@clang-format-19 --dry-run --Werror $(CPP_FILES)

types: build
	@echo "== types"
	$(VENV)/bin/mypy $(PY_DIRS)

imports: build
	@echo "== import rules"
	@$(VENV)/bin/lint-imports --no-logo

tidy: build
	@echo "== tidy"
	@$(PY) tools/tidy.py

format: build
	$(VENV)/bin/ruff check --quiet --fix . ; $(VENV)/bin/ruff format .
	clang-format-19 -i $(CPP_FILES)

# Undefined behaviour and memory errors in one build, data races in another: they cannot be combined.
sanitize: setup
	tools/sanitize.sh asan "address;undefined"
	tools/sanitize.sh tsan "thread"

fuzz: setup
	FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz.sh

demo: build
	$(PY) -m examples.wordcount $(DEMO_ARGS)

bench: build
	$(PY) -m benchmarks.run $(BENCH_ARGS)

# The tests of the interface on Aktis and on the system whose interface it is.
conformance: build
	$(PY) tools/conformance.py $(CONFORMANCE_ARGS)

# Published libraries on Aktis, in environments of their own below build/programs; needs the network once.
programs: build
	$(PY) -m pytest tests/programs $(PYTEST_ARGS)

clean:
	rm -rf build build-* client/aktis/_core*.so client/aktis/_proto
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
