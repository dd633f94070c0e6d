"""A handle by name is made from an answer of the GCS that is out of date when it comes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest

from tests.support.clients import embedded
from tests.support.gates import Gate

pytestmark = pytest.mark.xdist_group("late_handles")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote(num_cpus=0)
class Slow:
    def __init__(self, gate: Gate | None) -> None:
        if gate is not None:
            gate.enter()

    def ping(self) -> str:
        return "here"


@aktis.remote(num_cpus=0)
class Opener:
    def open(self, gate: Any) -> None:
        """Let the actor start, and return when it has."""
        with open(gate._go, "wb", buffering=0) as go:
            go.write(b"x")
        aktis.get(aktis.get_actor("slow").ping.remote(), timeout=20)


@aktis.remote(num_cpus=0)
class Caller:
    def call_what_has_started_meanwhile(self, gate: Gate, opener: Any, by_name: bool) -> str:
        """The actor becomes alive after the GCS's answer and before this process makes a handle of it."""
        from aktis._runtime import current

        assert current.session is not None
        control = current.session.control
        answer_of_gcs = control.gcs

        def answer_late(method: str, *arguments: Any) -> Any:
            reply = answer_of_gcs(method, *arguments)
            if method == ("GetActor" if by_name else "CreateActors"):
                control.gcs = answer_of_gcs  # type: ignore[method-assign]
                aktis.get(opener.open.remote(gate))
                # What is published of one that is made now comes after what was published of the other.
                aktis.get(Slow.remote(None).ping.remote())
            return reply

        control.gcs = answer_late  # type: ignore[method-assign, assignment]
        if by_name:
            handle = aktis.get_actor("slow")
        else:
            handle = Slow.options(name="slow", get_if_exists=True).remote(None)
        return str(aktis.get(handle.ping.remote(), timeout=20))


@pytest.mark.parametrize("by_name", [True, False], ids=["get_actor", "get_if_exists"])
def test_an_actor_that_starts_while_its_handle_is_made_can_be_called(tmp_path: Path, by_name: bool) -> None:
    with Gate(tmp_path) as gate:
        slow = Slow.options(name="slow").remote(gate)
        gate.wait_entered()
        caller, opener = Caller.remote(), Opener.remote()
        assert aktis.get(caller.call_what_has_started_meanwhile.remote(gate, opener, by_name)) == "here"
        aktis.kill(slow)
