"""The key-value store: bounds, the cache, and reads that go to storage."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.kv import KvManager, Lookup
from aktisd.gcs.limits import Limits
from aktisd.gcs.storage.interface import Table
from hypothesis import given
from hypothesis import strategies as st

LIMITS = Limits(kv_key_bytes=16, kv_value_bytes=1_000, kv_total_bytes=2_000, kv_cache_bytes=1_600, kv_list=3)


class Kv:
    """A manager whose writes are stored at once."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.manager = KvManager(LIMITS)

    def apply(self, out: Effects) -> None:
        for (_, key), value in out.rows().items():
            if value is None:
                self.stored.pop(key)
            else:
                self.stored[key] = value

    def put(self, key: bytes, value: bytes, overwrite: bool = False, namespace: str = "n") -> bool:
        out = Effects()
        request = gcs_pb2.KvPutRequest(namespace=namespace, key=key, value=value, overwrite=overwrite)
        reply = self.manager.put(request, out)
        self.apply(out)
        return reply.added

    def get(self, key: bytes, namespace: str = "n") -> bytes | None:
        reply = self.manager.get(gcs_pb2.KvGetRequest(namespace=namespace, key=key))
        if isinstance(reply, Lookup):
            finished = reply.finish(self.stored.get(reply.key))
            assert isinstance(finished, gcs_pb2.KvGetReply)
            reply = finished
        return reply.value if reply.found else None

    def delete(self, key: bytes) -> bool:
        out = Effects()
        reply = self.manager.delete(gcs_pb2.KvDeleteRequest(namespace="n", key=key), out)
        self.apply(out)
        return reply.deleted

    def keys(self, prefix: bytes = b"", limit: int = 0) -> list[bytes]:
        request = gcs_pb2.KvListRequest(namespace="n", prefix=prefix, limit=limit)
        return list(self.manager.list(request).keys)


def test_put_get_delete() -> None:
    kv = Kv()
    assert kv.put(b"a", b"1")
    assert not kv.put(b"a", b"2")
    assert kv.get(b"a") == b"1"
    assert not kv.put(b"a", b"2", overwrite=True)
    assert kv.get(b"a") == b"2"
    assert kv.delete(b"a")
    assert not kv.delete(b"a")
    assert kv.get(b"a") is None
    assert kv.manager.total_bytes == 0


def test_namespaces_do_not_meet() -> None:
    kv = Kv()
    kv.put(b"k", b"1", namespace="a")
    kv.put(b"k", b"2", namespace="ab")
    assert (kv.get(b"k", "a"), kv.get(b"k", "ab"), kv.get(b"k", "b")) == (b"1", b"2", None)


def test_list_by_prefix_in_order_within_the_limit() -> None:
    kv = Kv()
    for key in (b"b2", b"a", b"b1", b"b3", b"b0"):
        kv.put(key, b"")
    kv.put(b"b9", b"", namespace="other")
    assert kv.keys(b"b", limit=2) == [b"b0", b"b1"]
    assert kv.keys(b"b", limit=100) == [b"b0", b"b1", b"b2"]
    assert kv.keys(b"x") == []


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        (b"", b"", Status.INVALID_ARGUMENT),
        (b"k" * 17, b"", Status.INVALID_ARGUMENT),
        (b"k", bytes(1_001), Status.RESOURCE_EXHAUSTED),
    ],
)
def test_bounds(key: bytes, value: bytes, status: Status) -> None:
    kv = Kv()
    with pytest.raises(RequestError) as caught:
        kv.put(key, value)
    assert caught.value.status == status
    assert kv.stored == {}


def test_full_store_still_takes_what_makes_it_smaller() -> None:
    kv = Kv()
    kv.put(b"a", bytes(900))
    kv.put(b"b", bytes(900))
    with pytest.raises(RequestError, match="full"):
        kv.put(b"c", bytes(900))
    kv.put(b"a", bytes(100), overwrite=True)
    kv.put(b"c", bytes(900))


def test_value_too_large_for_the_cache_comes_from_storage() -> None:
    kv = Kv()
    kv.put(b"big", bytes(500))
    kv.put(b"small", b"1")
    assert kv.get(b"big") == bytes(500)
    assert kv.get(b"small") == b"1"
    assert (kv.manager.hits, kv.manager.misses) == (1, 1)


def test_restarted_store_reads_from_storage_then_from_the_cache() -> None:
    kv = Kv()
    kv.put(b"a", b"1")
    kv.manager = KvManager(LIMITS)
    kv.manager.load({key: len(value) for key, value in kv.stored.items()})
    assert [kv.get(b"a"), kv.get(b"a")] == [b"1", b"1"]
    assert (kv.manager.hits, kv.manager.misses) == (1, 1)


def test_read_that_a_put_overtakes_does_not_poison_the_cache() -> None:
    kv = Kv()
    kv.put(b"a", b"1")
    kv.manager = KvManager(LIMITS)
    kv.manager.load({key: len(value) for key, value in kv.stored.items()})
    lookup = kv.manager.get(gcs_pb2.KvGetRequest(namespace="n", key=b"a"))
    assert isinstance(lookup, Lookup)
    assert lookup.table == Table.KV
    kv.put(b"a", b"2", overwrite=True)
    assert lookup.finish(b"1").found  # type: ignore[attr-defined]
    assert kv.get(b"a") == b"2"
    kv.delete(b"a")
    assert not lookup.finish(None).found  # type: ignore[attr-defined]


KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.integers(0, 90).map(bytes)


@given(st.lists(st.tuples(st.sampled_from(["put", "overwrite", "get", "delete"]), KEYS, VALUES)))
def test_behaves_like_a_dictionary(steps: list[tuple[str, bytes, bytes]]) -> None:
    kv = Kv()
    model: dict[bytes, bytes] = {}
    for action, key, value in steps:
        if action == "get":
            assert kv.get(key) == model.get(key)
        elif action == "delete":
            assert kv.delete(key) == (model.pop(key, None) is not None)
        else:
            assert kv.put(key, value, action == "overwrite") == (key not in model)
            if action == "overwrite" or key not in model:
                model[key] = value
    assert kv.keys() == sorted(model)
    assert kv.manager.total_bytes == sum(len(value) + len(b"n\0") + len(key) for key, value in model.items())
