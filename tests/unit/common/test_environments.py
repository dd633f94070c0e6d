"""Descriptions of runtime environments as they travel."""

import json
from dataclasses import replace
from typing import Any

import pytest
from aktis._common.environments import (
    Environment,
    Requirements,
    environment_hash,
    expand_variables,
    is_hash,
)

FULL = Environment(
    env_vars={"B": "2", "A": "1"},
    working_dir="package://d",
    py_modules=("package://m",),
    pip=Requirements(("numpy==2",), ("--no-deps",), True, "==24", {"/a.whl": "f0"}),
    py_executable="",
    hook="module.function",
    setup_timeout_s=5.0,
)


@pytest.mark.parametrize("environment", [Environment(), FULL, replace(FULL, setup_timeout_s=0.0)])
def test_it_travels(environment: Environment) -> None:
    assert Environment.decode(environment.encode()) == environment


def test_equal_environments_have_one_name_and_others_another() -> None:
    same = replace(FULL, env_vars={"A": "1", "B": "2"})
    assert environment_hash(same.encode()) == environment_hash(FULL.encode())
    other = replace(FULL, env_vars={"A": "1", "B": "3"})
    assert environment_hash(other.encode()) != environment_hash(FULL.encode())


def test_names_are_recognized() -> None:
    assert is_hash(environment_hash(b""))
    for wrong in ("", "x" * 32, "../" + "a" * 29, "a" * 31):
        assert not is_hash(wrong)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"3",
        b'{"unknown": 1}',
        b'{"env_vars": {"A": 1}}',
        b'{"env_vars": 3}',
        b'{"working_dir": 3}',
        b'{"py_modules": "x"}',
        b'{"py_modules": [1]}',
        b'{"pip": {"packages": ["a"]}}',
        b'{"pip": 3}',
        b'{"setup_timeout_s": "soon"}',
        b'{"setup_timeout_s": NaN}',
        b'{"setup_timeout_s": -1}',
        b'{"setup_timeout_s": 1e999}',
        b'{"setup_timeout_s": 1' + b"0" * 400 + b"}",
        b"[" * 100_000,
        b'{"pip": ' + b'{"a":' * 100_000,
    ],
)
def test_a_malformed_description_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="malformed description"):
        Environment.decode(data)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({}, False),
        ({"env_vars": {"COLOUR": "blue"}, "hook": "a.b"}, False),
        ({"env_vars": {"OMP_NUM_THREADS": "4"}}, True),
        ({"env_vars": {"LD_LIBRARY_PATH": "/lib"}}, True),
        ({"env_vars": {"PYTHONHASHSEED": "0"}}, True),
        ({"working_dir": "package://d"}, True),
        ({"py_executable": "python -O"}, True),
    ],
)
def test_a_template_of_its_own_is_for_what_a_fork_cannot_change(given: dict[str, Any], needs: bool) -> None:
    assert Environment(**given).needs_template is needs


def test_references_in_variables_are_replaced() -> None:
    found = expand_variables({"A": "${HOME}/x:${NOT_THERE}", "B": "$HOME"}, {"HOME": "/home/me"})
    assert found == {"A": "/home/me/x:", "B": "$HOME"}


def test_the_text_is_json_without_what_is_empty() -> None:
    assert json.loads(Environment(env_vars={"A": "1"}).encode()) == {
        "env_vars": {"A": "1"},
        "setup_timeout_s": 600.0,
    }
