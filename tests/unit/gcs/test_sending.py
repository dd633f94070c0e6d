"""A stream's queue: order, batches, bounds."""

from aktis._proto import gcs_pb2
from aktisd.gcs.limits import Limits
from aktisd.gcs.pubsub import PubSub
from aktisd.gcs.sending import SendQueue

NodeDown = gcs_pb2.NodeDown


def ack(sequence: int) -> NodeDown:
    return NodeDown(heartbeat_ack=gcs_pb2.HeartbeatAck(sequence=sequence))


def drained(queue: SendQueue) -> list[list[NodeDown]]:
    messages = []
    while (message := queue.next_message()) is not None:
        messages.append(list(message.batch.items) if message.HasField("batch") else [message])
    return messages


def test_one_message_is_sent_as_it_is_and_several_as_a_batch() -> None:
    queue = SendQueue(Limits())
    queue.add(ack(1))
    assert queue.next_message() == ack(1)
    for number in range(5):
        queue.add(ack(number))
    assert drained(queue) == [[ack(number) for number in range(5)]]
    assert queue.next_message() is None


def test_batches_are_bounded_in_number_and_bytes() -> None:
    queue = SendQueue(Limits(batch_items=3))
    for number in range(1, 8):
        queue.add(ack(number))
    assert [len(batch) for batch in drained(queue)] == [3, 3, 1]
    queue = SendQueue(Limits(batch_bytes=25_000))
    for _ in range(4):
        queue.add(NodeDown(relay=gcs_pb2.RelayReply(payload=bytes(10_000))))
    queue.add(NodeDown(relay=gcs_pb2.RelayReply(payload=bytes(30_000))))
    assert [len(batch) for batch in drained(queue)] == [2, 2, 1]


def test_overflow_is_final() -> None:
    queue = SendQueue(Limits(session_items=2))
    for number in range(3):
        queue.add(ack(number))
    assert queue.overflowed
    queue.next_message()
    queue.add(ack(9))
    assert queue.next_message() is None


def test_overflow_in_bytes_but_one_large_message_passes() -> None:
    large = NodeDown(relay=gcs_pb2.RelayReply(payload=bytes(10_000)))
    queue = SendQueue(Limits(session_bytes=5_000))
    queue.add(large)
    assert not queue.overflowed
    queue.add(ack(1))
    assert queue.overflowed


def test_publications_come_after_messages_and_share_the_batch() -> None:
    pubsub = PubSub(Limits(), term=1)
    queue = SendQueue(Limits(batch_items=3))
    queue.subscriptions = {name: pubsub.subscribe(name, 0) for name in ("actors", "jobs")}
    queue.add(ack(1))
    first, second, third = (message.WhichOneof("body") for message in drained(queue)[0])
    assert (first, second, third) == ("heartbeat_ack", "publication", "publication")
    for _ in range(5):
        pubsub.publish(gcs_pb2.Publication(channel="actors"))
    batches = drained(queue)
    assert [len(batch) for batch in batches] == [3, 2]
    sequences = [message.publication.sequence for batch in batches for message in batch]
    assert sequences == sorted(sequences)
