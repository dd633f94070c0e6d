"""Pieces for tests of the pure parts of the GCS: a clock moved by hand, and short forms of messages."""

import random
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aktis._common.resources import ResourceSet
from aktis._common.version import PROTOCOL_MAJOR, PROTOCOL_MINOR
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.cluster import Cluster, Image
from aktisd.gcs.effects import Effects
from aktisd.gcs.limits import Limits
from aktisd.gcs.resource_view import NodeResources
from aktisd.gcs.storage.interface import Storage
from aktisd.gcs.storage.memory import MemoryImage, MemoryStorage

Report = gcs_pb2.ActorReport


class SimulatedClock:
    """Both clocks of `aktisd.gcs.clock.Clock`, moved by hand."""

    def __init__(self) -> None:
        self.now_ms = 1_000.0

    def advance(self, passed_ms: float) -> None:
        """Let time pass."""
        self.now_ms += passed_ms

    def monotonic_ms(self) -> float:
        """Return the simulated time."""
        return self.now_ms

    def unix_ms(self) -> int:
        """Return the simulated time as if 1970 had been at a fixed distance."""
        return 1_700_000_000_000 + int(self.now_ms)


def node_id(number: int) -> bytes:
    """Return the id of a numbered node."""
    return b"node" + number.to_bytes(12, "big")


def worker_id(number: int) -> bytes:
    """Return the id of a numbered process."""
    return b"work" + number.to_bytes(12, "big")


def actor_id(number: int) -> bytes:
    """Return the id of a numbered actor."""
    return b"actr" + number.to_bytes(12, "big")


def resources(amounts: Mapping[str, float]) -> common_pb2.Resources:
    """Return a message from amounts in units."""
    return ResourceSet.of(amounts).to_proto()


def node_resources(number: int, cpus: float, **labels: str) -> NodeResources:
    """Return an idle node for a resource view."""
    total = ResourceSet.of({"CPU": cpus})
    return NodeResources(node_id(number), f"host{number}", total, total, labels)


def registration(number: int, cpus: float = 4, **fields: object) -> gcs_pb2.NodeRegister:
    """Return what a node registers with."""
    has = resources({"CPU": cpus})
    node = gcs_pb2.Node(node_id=node_id(number), hostname=f"host{number}", total=has, available=has)
    return gcs_pb2.NodeRegister(
        node=node,
        protocol_major=PROTOCOL_MAJOR,
        protocol_minor=PROTOCOL_MINOR,
        **fields,  # type: ignore[arg-type]
    )


def process(number: int, node: int = 1) -> common_pb2.ProcessAddress:
    """Return the address of a numbered process."""
    return common_pb2.ProcessAddress(worker_id=worker_id(number), node_id=node_id(node), pid=number)


def actor_spec(number: int, **fields: object) -> gcs_pb2.ActorSpec:
    """Return the spec of an actor of job 1 that process 1 on node 1 owns, unless fields say otherwise."""
    values: dict[str, object] = {
        "actor_id": actor_id(number),
        "job_id": b"\0\0\0\1",
        "class_name": "Counter",
        "creation_task": b"create",
        "handle": b"handle",
        "owner": process(1),
    }
    return gcs_pb2.ActorSpec(**{**values, **fields})  # type: ignore[arg-type]


def group_id(number: int) -> bytes:
    """Return the id of a numbered placement group."""
    return b"grup" + number.to_bytes(12, "big")


def group_spec(
    number: int, strategy: str, *bundles: Mapping[str, float], **fields: object
) -> gcs_pb2.PlacementGroupSpec:
    """Return the spec of a placement group of job 1 that process 1 on node 1 creates."""
    values: dict[str, object] = {"job_id": b"\0\0\0\1", "owner": process(1)}
    return gcs_pb2.PlacementGroupSpec(
        placement_group_id=group_id(number),
        strategy=gcs_pb2.PlacementGroupSpec.Strategy.Value(strategy),
        bundles=[gcs_pb2.Bundle(resources=resources(bundle)) for bundle in bundles],
        **{**values, **fields},  # type: ignore[arg-type]
    )


def report(
    number: int, incarnation: int, event: "gcs_pb2.ActorReport.Event.ValueType", **fields: object
) -> gcs_pb2.ActorReport:
    """Return a report about a numbered actor; one that is ALIVE runs in a process made for the occasion."""
    message = Report(actor_id=actor_id(number), incarnation=incarnation, event=event, **fields)  # type: ignore[arg-type]
    if event == Report.ALIVE and not message.HasField("address"):
        message.address.CopyFrom(common_pb2.ProcessAddress(worker_id=secrets.token_bytes(16), pid=7))
    return message


def sent(out: Effects, kind: str) -> list[tuple[bytes, object]]:
    """Return the messages of a kind with the nodes that they go to."""
    return [(to, getattr(message, kind)) for to, message in out.messages if message.HasField(kind)]  # type: ignore[arg-type]


class Ordered(NamedTuple):
    """An order about the bundles of one group."""

    placement_group_id: bytes
    attempt: int
    body: Any
    """Of its kind, for example PrepareBundles."""


def ordered(out: Effects, kind: str) -> list[tuple[bytes, Ordered]]:
    """Return the orders about bundles of a kind, group by group, with the nodes that they go to."""
    return [
        (to, Ordered(group, order.attempt, getattr(order, kind)))
        for to, orders in sent(out, "bundle_orders")
        for order in orders.orders  # type: ignore[attr-defined]
        for group in order.placement_group_ids
        if order.HasField(kind)
    ]


def answers(*each: gcs_pb2.BundlesPrepared) -> gcs_pb2.BundleAnswers:
    """Return what a raylet says about bundles."""
    return gcs_pb2.BundleAnswers(answers=each)


class SimulatedCluster:
    """A cluster on memory storage, whose steps are stored at once; it can be restarted."""

    def __init__(self, limits: Limits | None = None, storage: Storage | None = None) -> None:
        self.clock = SimulatedClock()
        self.limits = limits or Limits()
        self.image = MemoryImage()
        self.held: Effects | None = None
        self.restart()

    def restart(self) -> None:
        """Begin again from what is stored."""
        self.storage = MemoryStorage(self.image)
        image = Image.load(self.storage, self.storage.open())
        out, self.held = Effects(), None
        self.state = Cluster(image, self.clock, self.limits, random.Random(1), out)
        self.settle(out)

    def step(self) -> Effects:
        """Return where a step puts its effects."""
        held, self.held = self.held, None
        out = held or Effects()
        out.catch_up()
        return out

    def hold(self, out: Effects) -> list[tuple[bytes, gcs_pb2.NodeDown]]:
        """End a step as the gateway does that waits for answers: return what leaves before it is stored."""
        self.state.settle(out)
        self.held = out
        early = out.take_early()
        if out.catch_up():
            self.state.settle(out)
        return early

    def settle(self, out: Effects) -> Effects:
        """End a step as the gateway does."""
        self.state.settle(out)
        if out.catch_up():
            self.state.settle(out)
        out.messages[:0] = out.take_early()
        self.storage.commit(out.rows())
        for publication in out.publications:
            self.state.pubsub.publish(publication)
        return out

    def register(self, number: int, **fields: object) -> Effects:
        """Connect a node."""
        out = self.step()
        self.state.register(registration(number, **fields), out)  # type: ignore[arg-type]
        return self.settle(out)

    def up(self, number: int, **body: object) -> Effects:
        """Let a message come from a node."""
        out = self.step()
        self.state.up(node_id(number), gcs_pb2.NodeUp(**body), out)  # type: ignore[arg-type]
        return self.settle(out)

    def job(self, driver: int = 1, node: int = 1) -> gcs_pb2.Job:
        """Register a job."""
        out = self.step()
        job = self.state.jobs.register(gcs_pb2.RegisterJobRequest(driver=process(driver, node)), out)
        self.settle(out)
        return job

    def create(self, *specs: gcs_pb2.ActorSpec, get_if_exists: bool = False) -> tuple[list[object], Effects]:
        """Create actors; return the results and the effects."""
        out = self.step()
        request = gcs_pb2.CreateActorsRequest(specs=specs, get_if_exists=get_if_exists)
        results = list(self.state.actor_requests.create(request, out).results)
        return list(results), self.settle(out)

    def create_groups(
        self, *specs: gcs_pb2.PlacementGroupSpec, remove_first: Iterable[int] = ()
    ) -> tuple[list[str], Effects]:
        """Create placement groups; return the errors, empty for those that were created, and the effects."""
        out = self.step()
        removed = [group_id(number) for number in remove_first]
        request = gcs_pb2.CreatePlacementGroupsRequest(specs=specs, remove_first=removed)
        results = self.state.create_groups(request, out).results
        return [result.error for result in results], self.settle(out)

    def remove_groups(self, *numbers: int) -> Effects:
        """Remove placement groups."""
        out = self.step()
        ids = [group_id(number) for number in numbers]
        self.state.remove_groups(gcs_pb2.RemovePlacementGroupsRequest(placement_group_ids=ids), out)
        return self.settle(out)

    def group(self, number: int) -> gcs_pb2.PlacementGroup:
        """Return a placement group as GetPlacementGroup shows it."""
        request = gcs_pb2.GetPlacementGroupRequest(placement_group_id=group_id(number))
        reply = self.state.group_requests.get(request)
        assert reply.found
        return reply.group

    def pass_time(self, passed_ms: float) -> Effects:
        """Let time pass in ticks; return the effects of all of them."""
        everything = Effects()
        step_ms = self.state.nodes.tick_period_ms
        while passed_ms > 0:
            self.clock.advance(min(step_ms, passed_ms))
            passed_ms -= step_ms
            out = self.step()
            self.state.tick(out)
            self.settle(out)
            everything.messages += out.messages
            everything.refusals += out.refusals
            everything.publications += out.publications
        return everything

    def actor(self, number: int) -> gcs_pb2.Actor:
        """Return an actor as GetActor shows it."""
        reply = self.state.actor_requests.get(gcs_pb2.GetActorRequest(actor_id=actor_id(number)))
        assert reply.found
        return reply.actor
