"""Causes of death in words."""

from typing import Any, cast

import pytest
from aktis._proto import common_pb2
from aktis._runtime.causes import describe_death

Cause = common_pb2.DeathCause


@pytest.mark.parametrize(
    ("cause", "parts"),
    [
        (None, ["not known"]),
        (Cause(), ["not known"]),
        (Cause(kind=Cause.EXITED, exit_code=3, pid=7), ["exited with code 3", "(process 7)"]),
        (Cause(kind=Cause.SIGNALED, signal=11), ["signal 11 (SIGSEGV)", "fault handler"]),
        (Cause(kind=Cause.SIGNALED, signal=200), ["signal 200"]),
        (Cause(kind=Cause.OUT_OF_MEMORY, message="3 GiB"), ["memory ran out", "3 GiB", "memory="]),
        (Cause(kind=Cause.KILLED, message="kill() was called"), ["kill() was called"]),
        (Cause(kind=Cause.OWNER_DIED), ["owner died"]),
        (Cause(kind=cast(Any, 1_000)), ["unknown"]),
    ],
)
def test_the_words_say_what_happened(cause: common_pb2.DeathCause | None, parts: list[str]) -> None:
    text = describe_death(cause)
    assert all(part in text for part in parts), text


def test_the_last_words_are_quoted() -> None:
    text = describe_death(Cause(kind=Cause.EXITED, exit_code=1, stderr_tail="one\ntwo\n"))
    assert text.endswith("last lines on stderr:\n  one\n  two")
