"""What the configuration makes of the GCS, and that broken storage ends it."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from aktis._common.config import load_config
from aktis._common.logging import get_logger
from aktis._proto import gcs_pb2
from aktisd.gcs.clock import SystemClock
from aktisd.gcs.cluster import Cluster, Image
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.gateway import Gateway
from aktisd.gcs.limits import Limits
from aktisd.gcs.metrics import GcsCollector
from aktisd.gcs.service import limits_from, make_storage
from aktisd.gcs.storage.interface import StorageError, Writes
from aktisd.gcs.storage.memory import MemoryStorage
from aktisd.gcs.storage.redis import RedisStorage
from aktisd.gcs.storage.sqlite import SqliteStorage
from aktisd.gcs.storage.writer import StorageWriter
from google.protobuf.message import Message


class FullDisk(MemoryStorage):
    """Fails every commit."""

    def commit(self, writes: Writes) -> None:
        raise StorageError("disk full")


@pytest.mark.parametrize(
    ("kind", "expected"), [("memory", MemoryStorage), ("sqlite", SqliteStorage), ("redis", RedisStorage)]
)
def test_storage_of_the_configuration(kind: str, expected: type, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"gcs.storage.kind": kind, "paths.session_dir": str(tmp_path)}
    storage = make_storage(load_config(None, environ={}, flags=flags).config)
    assert isinstance(storage, expected)
    storage.close()


def test_limits_of_the_configuration(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"gcs.dead_actors_kept": "7", "paths.session_dir": str(tmp_path)}
    limits = limits_from(load_config(None, environ={}, flags=flags).config)
    assert limits.dead_actors == 7
    assert limits.suspect_after_ms == Limits().suspect_after_ms


def test_broken_storage_answers_unavailable_and_is_fatal() -> None:
    async def scenario() -> None:
        writer = StorageWriter(FullDisk(), retry_for_s=0.0)
        image = await writer.start(Image.load)
        clock = SystemClock()
        gateway = Gateway(
            Cluster(image, clock, Limits(), random.Random(1), Effects()), writer, clock, get_logger()
        )
        answers: asyncio.Queue[Message | RequestError] = asyncio.Queue()
        request = gcs_pb2.KvPutRequest(namespace="n", key=b"k").SerializeToString()
        gateway.call("KvPut", request, answers.put_nowait)
        answer = await asyncio.wait_for(answers.get(), 10)
        assert isinstance(answer, RequestError)
        assert answer.status == Status.UNAVAILABLE
        assert "disk full" in str(await asyncio.wait_for(gateway.outbox.failed, 10))
        assert {family.name for family in GcsCollector(gateway, writer).collect()} >= {
            "aktis_gcs_calls",
            "aktis_gcs_storage_commits",
        }
        gateway.close()
        await writer.stop()

    asyncio.run(scenario())
