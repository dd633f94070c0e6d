"""When an actor's state is saved again after that has failed."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aktis._worker import checkpoints
from aktis._worker.checkpoints import Saver
from aktis.checkpoint import Checkpoint, CheckpointStore


class Holder:
    """Can be pickled if what it holds can."""

    held: Any = None


def test_a_save_that_failed_is_tried_again_after_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 0.0
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: now_s))
    saver = Saver(Checkpoint(str(tmp_path), every_s=10, key="k"), b"", is_async=False)
    holder = Holder()
    holder.held = threading.Lock()
    saver.adopt(holder)
    now_s = 11.0
    with saver.call():
        pass
    assert "tried again after the next call" in capsys.readouterr().err
    holder.held = None
    with saver.call():
        pass
    assert len(CheckpointStore(str(tmp_path), "k").versions()) == 1
    assert not capsys.readouterr().err
