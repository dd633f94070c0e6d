"""The resource object_store_memory is the size of the store, whoever has decided it."""

import time
from collections.abc import Iterator

import aktis
import grpc
import pytest
from aktis._common.rpc import call_metadata
from aktis._proto import raylet_pb2, raylet_pb2_grpc

from tests.support.clients import embedded
from tests.support.daemons import Daemons
from tests.support.sandbox import Sandbox
from tests.support.store_gauges import StoreGauges

MIB = 1 << 20


@pytest.mark.parametrize("wish_bytes", [None, 33 * MIB + 1])
def test_the_cluster_offers_what_the_store_has(wish_bytes: int | None) -> None:
    with embedded(num_cpus=1, object_store_memory=wish_bytes) as context:
        capacity_bytes = StoreGauges(context["session_dir"]).read("capacity_bytes")
        assert capacity_bytes > 0
        assert aktis.cluster_resources()["object_store_memory"] == capacity_bytes
        assert aktis.available_resources()["object_store_memory"] == capacity_bytes


@pytest.fixture
def daemons(sandbox: Sandbox) -> Iterator[Daemons]:
    with Daemons(sandbox) as daemons:
        yield daemons


def test_a_store_that_comes_back_with_another_size_is_asked_again(daemons: Daemons) -> None:
    daemons.start("gcs")
    daemons.start("plasma", "plasma.capacity_bytes=16 MiB")
    daemons.start("raylet", "raylet.num_cpus=1", "raylet.workers.prestart=0")
    with grpc.insecure_channel(f"unix:{daemons.paths.raylet_grpc_socket}") as channel:

        def offered() -> int:
            state = raylet_pb2_grpc.RayletStub(channel).GetState(
                raylet_pb2.GetRayletStateRequest(), timeout=10, metadata=call_metadata(daemons.token)
            )
            return int(state.total.amounts["object_store_memory"]) // 10_000

        assert offered() == 16 * MIB
        daemons.signal("plasma", 15)
        daemons.wait("plasma")
        daemons.start("plasma", "plasma.capacity_bytes=24 MiB")
        deadline_s = time.monotonic() + 20
        while offered() != 24 * MIB:
            assert time.monotonic() < deadline_s
