"""What lists and summaries say of what is missing."""

from typing import Any

import pytest
from aktis._proto import gcs_pb2, snapshot_pb2
from aktis.exceptions import AktisError
from aktis.util import state
from aktis.util.state import api

WHO = "worker 61 (pid 11)"


class Cluster:
    """A GCS with one node, of whose processes one is silent and one had too much to tell."""

    def __init__(self) -> None:
        held = snapshot_pb2.ObjectSnapshot(object_id=b"o", exists=True, local=1, size_bytes=2_000_000)
        process = snapshot_pb2.ProcessSnapshot(pid=3, objects=[held, held], left_off=5)
        self.node = snapshot_pb2.NodeSnapshot(node_id=b"n", processes=[process], silent=[WHO])
        self.asked: list[snapshot_pb2.TakeSnapshot] = []

    def __call__(self, method: str, request: Any, reply: Any, timeout_s: float) -> Any:
        if method == "ListActors":
            return gcs_pb2.ListActorsReply()
        assert method == "TakeSnapshot"
        self.asked.append(request.what)
        return snapshot_pb2.TakeSnapshotReply(nodes=[self.node])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(api, "source_of", lambda address: made)
    return made


def test_lists_say_who_is_silent_and_what_is_left_off(cluster: Cluster) -> None:
    found = state.list_objects(limit=1, raise_on_missing_output=False, timeout=4)
    assert (len(found), found.left_off, found.silent) == (1, 6, [WHO])
    assert (cluster.asked[0].limit, cluster.asked[0].timeout_ms) == (1, 2000)
    with pytest.raises(AktisError, match=r"pid 11\) did not answer in time.*raise_on_missing_output=False"):
        state.list_objects()
    state.list_objects(filters=[("pid", "=", 3)], raise_on_missing_output=False)
    assert cluster.asked[-1].limit == 10_000
    assert len(state.get_objects(b"o".hex())) == 2


def test_summaries_say_it_too(cluster: Cluster) -> None:
    counted = state.summarize_objects(raise_on_missing_output=False)["cluster"]
    assert (counted["left_off"], counted["silent"]) == (5, [WHO])
    assert counted["total_size_mb"] == 4.0
    assert counted["summary"]["disabled"]["ref_type_counts"] == {"LOCAL_REFERENCE": 2}
    with pytest.raises(AktisError, match="did not answer"):
        state.summarize_objects()
    assert state.summarize_actors()["cluster"] == {"summary": {}, "total_actors": 0, "summary_by": "class"}


def test_functions_made_from_the_table_say_what_they_are() -> None:
    assert state.list_tasks.__name__ == "list_tasks"  # type: ignore[attr-defined]
    assert "attempts of tasks" in (state.list_tasks.__doc__ or "")
    assert "raise_on_missing_output: False" in (state.list_workers.__doc__ or "")
    assert state.get_placement_group.__doc__ == (
        "Return a placement group by its id in hexadecimal; None when the cluster does not know it."
    )
