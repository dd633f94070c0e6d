# Everything a developer or CI runs. `make build` once, then `make test`. See CONTRIBUTING.md.
PYTHON ?= python3
VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2

.DEFAULT_GOAL := build
.PHONY: setup build test lint clean

setup:
	@tools/setup.sh "$(PYTHON)" "$(VENV)"

build: setup
	@tools/build.sh "$(PY)"

test: build
	ninja -C build aktis_tests
	ctest --test-dir build --output-on-failure -j2
	$(PY) -m pytest tests/unit -n 2

lint: build
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf build build-* client/aktis/_core*.so client/aktis/_proto .mypy_cache .ruff_cache .pytest_cache
