"""The actor option ``checkpoint``: state that outlives the process it was in."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.checkpoint import Checkpoint, CheckpointStore, save
from aktis.exceptions import ActorDiedError

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("checkpoints")
TIMEOUT_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


class Counter:
    """Counts; what it holds beside the count is not saved."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def fail(self) -> None:
        self.count += 1
        raise LookupError

    def items(self) -> Iterator[int]:
        self.count += 1
        yield self.count

    def get(self) -> int:
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def save(self) -> str:
        return save()


class AsyncCounter:
    """The same on an event loop."""

    def __init__(self) -> None:
        self.count = 0

    async def add(self) -> int:
        self.count += 1
        await asyncio.sleep(0)
        return self.count

    async def fail(self) -> None:
        self.count += 1
        raise LookupError

    async def items(self) -> AsyncIterator[int]:
        self.count += 1
        yield self.count

    def get(self) -> int:
        return self.count

    async def pid(self) -> int:
        return os.getpid()


class Written:
    """Says by hand what is saved."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.words: list[str] = []

    def save_checkpoint(self) -> Any:
        return {"words": self.words}

    def load_checkpoint(self, state: Any) -> None:
        self.words = state["words"]

    def say(self, word: str) -> list[str]:
        self.words.append(word)
        return self.words

    def pid(self) -> int:
        return os.getpid()


def actor(cls: Any, policy: Checkpoint, **options: Any) -> Any:
    return aktis.remote(max_restarts=-1, max_task_retries=-1, checkpoint=policy, **options)(cls).remote()


def crash(handle: Any) -> None:
    os.kill(aktis.get(handle.pid.remote(), timeout=TIMEOUT_S), signal.SIGKILL)


@pytest.mark.parametrize("cls", [Counter, AsyncCounter])
def test_what_was_answered_survives(tmp_path: Path, cls: Any) -> None:
    counter = actor(cls, Checkpoint(str(tmp_path), every_calls=1))
    for expected in (1, 2):
        assert aktis.get(counter.add.remote(), timeout=TIMEOUT_S) == expected
        crash(counter)
    with pytest.raises(LookupError):
        aktis.get(counter.fail.remote(), timeout=TIMEOUT_S)
    crash(counter)
    assert [aktis.get(ref) for ref in counter.items.remote()] == [4]
    crash(counter)
    assert aktis.get(counter.get.remote(), timeout=TIMEOUT_S) == 4


@pytest.mark.parametrize("cls", [Counter, AsyncCounter])
def test_every_so_many_calls(tmp_path: Path, cls: Any) -> None:
    counter = actor(cls, Checkpoint(str(tmp_path), every_calls=3))
    pid = aktis.get(counter.pid.remote())
    for _ in range(4):  # saved after the second, which is the third call
        aktis.get(counter.add.remote(), timeout=TIMEOUT_S)
    os.kill(pid, signal.SIGKILL)
    assert aktis.get(counter.get.remote(), timeout=TIMEOUT_S) == 2


@pytest.mark.parametrize("cls", [Counter, AsyncCounter])
def test_after_some_time_without_another_call(tmp_path: Path, cls: Any) -> None:
    os.mkfifo(tmp_path / "told")

    class Telling(cls):  # type: ignore[misc]
        def __getstate__(self) -> Any:
            threading.Thread(target=(tmp_path / "told").write_text, args=[str(self.count)]).start()
            return vars(self)

    counter = actor(Telling, Checkpoint(f"file://{tmp_path}", every_s=0.2))
    pid = aktis.get(counter.pid.remote())
    aktis.get(counter.add.remote(), timeout=TIMEOUT_S)
    while (tmp_path / "told").read_text() != "1":
        continue  # under load the first one comes before the call
    assert aktis.get(counter.get.remote()) == 1  # what it tells is written when the next call runs
    os.kill(pid, signal.SIGKILL)
    assert aktis.get(counter.get.remote(), timeout=TIMEOUT_S) == 1


def test_only_by_hand(tmp_path: Path) -> None:
    counter = actor(Counter, Checkpoint(str(tmp_path)))
    aktis.get([counter.add.remote() for _ in range(3)])
    version = aktis.get(counter.save.remote())
    aktis.get(counter.add.remote())
    crash(counter)
    assert aktis.get(counter.get.remote(), timeout=TIMEOUT_S) == 3
    assert aktis.get(counter.save.remote()) > version


def test_a_class_that_says_what_is_saved(tmp_path: Path) -> None:
    written = actor(Written, Checkpoint(str(tmp_path), every_calls=1))
    aktis.get(written.say.remote("a"))
    crash(written)
    assert aktis.get(written.say.remote("b"), timeout=TIMEOUT_S) == ["a", "b"]


def test_a_key_is_continued_by_the_next_actor_and_other_state_goes_with_its_actor(tmp_path: Path) -> None:
    for policy, expected in ((Checkpoint(str(tmp_path), key="k"), 2), (Checkpoint(str(tmp_path)), 1)):
        last = 0
        for _ in range(2):
            counter = actor(Counter, policy)
            last = aktis.get(counter.add.remote(), timeout=TIMEOUT_S)
            with pytest.raises(ActorDiedError):
                aktis.get(counter.__aktis_terminate__.remote(), timeout=TIMEOUT_S)
        assert last == expected
    assert os.listdir(tmp_path) == ["k"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    counter = actor(Counter, Checkpoint(str(tmp_path), key="k", keep=3))
    for _ in range(3):
        aktis.get(counter.add.remote())
        aktis.get(counter.save.remote())
    newest = tmp_path / "k" / f"{CheckpointStore(str(tmp_path), 'k').versions()[-1]}.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-1])
    crash(counter)
    assert aktis.get(counter.get.remote(), timeout=TIMEOUT_S) == 2


def test_a_state_that_cannot_be_saved_costs_no_call_and_one_that_cannot_be_loaded_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @aktis.remote(checkpoint=Checkpoint(str(tmp_path), every_calls=1))
    class Holder:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def ping(self) -> str:
            return "pong"

        def save(self) -> str:
            return save()

    holder: Any = Holder.remote()
    assert aktis.get(holder.ping.remote()) == "pong"
    with pytest.raises(aktis.checkpoint.CheckpointError, match=r"Holder cannot be pickled: .*lock"):
        aktis.get(holder.save.remote())
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "00000001-000000000001.checkpoint").write_bytes(b"nonsense")
    with pytest.raises(ActorDiedError, match="damaged"):
        aktis.get(actor(Counter, Checkpoint(str(tmp_path), key="k")).get.remote(), timeout=TIMEOUT_S)


def test_threads_must_save_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"several threads.*checkpoint\.save\(\)"):
        aktis.remote(max_concurrency=2, checkpoint=Checkpoint(str(tmp_path), every_s=1))(Counter)
    counter = actor(Counter, Checkpoint(str(tmp_path)), max_concurrency=2)
    aktis.get(counter.add.remote())
    aktis.get(counter.save.remote())
    crash(counter)
    assert aktis.get(counter.get.remote(), timeout=TIMEOUT_S) == 1


def test_saving_elsewhere_is_refused() -> None:
    with pytest.raises(RuntimeError, match="option 'checkpoint'"):
        save()
