"""Keywords of init that begin with an underscore."""

import pytest
from aktis._runtime.private_keywords import settings_of


def test_memory_is_what_a_new_cluster_offers() -> None:
    assert settings_of({"_memory": 1 << 30}) == {"raylet.memory_bytes": 1 << 30}
    assert settings_of({"_memory": None}) == {}


def test_those_about_parts_of_another_runtime_have_no_meaning() -> None:
    assert settings_of({"_redis_password": "x", "_temp_dir": "/tmp"}) == {}


def test_unknown_ones_are_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match=r"init\(\) got an unexpected keyword argument 'num_cpu'"):
        settings_of({"num_cpu": 1})
