"""What this process knows of tasks and objects, for somebody who asks the cluster. On the service thread."""

from typing import TYPE_CHECKING

from aktis._proto import common_pb2, snapshot_pb2

if TYPE_CHECKING:
    from aktis._runtime.session import Session


def take_snapshot(session: "Session", what: snapshot_pb2.TakeSnapshot) -> None:
    """Answer the raylet."""
    encoded = session.core.snapshot(what.tasks, what.objects, what.limit)
    if what.tasks:
        # After the look and before the answer: what has ended by then is in the events, which come first.
        session.core.flush_events()
    snapshot = snapshot_pb2.ProcessSnapshot.FromString(encoded)
    snapshot.round = what.round
    for class_key in {task.class_key for task in snapshot.tasks if task.class_key}:
        needs = session.service.leases.resources(class_key)
        snapshot.classes[class_key].CopyFrom(common_pb2.Resources(amounts=needs))
    for one in snapshot.objects:
        one.is_actor = session.actors.is_life(one.object_id)
    session.control.notify(snapshot=snapshot)
