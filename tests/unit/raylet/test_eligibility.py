"""Which lease requests a node must not serve, and with which words they are turned down."""

import pytest
from aktis._proto import common_pb2, raylet_pb2
from aktisd.raylet.eligibility import Eligibility
from aktisd.raylet.resources import Ledger

from tests.support.fake_node import units

HERE, ELSEWHERE = b"h" * 16, b"e" * 16
NODE = Eligibility(HERE, "n1", {"zone": "a"}, Ledger(units(CPU=2)))


def request(
    selector: dict[str, str] | None = None, cpus: float = 1, **strategy: object
) -> raylet_pb2.RequestLeases:
    return raylet_pb2.RequestLeases(
        resources=common_pb2.Resources(amounts=units(CPU=cpus)),
        label_selector=selector or {},
        strategy=common_pb2.SchedulingStrategy(**strategy),  # type: ignore[arg-type]
    )


def fallback(**labels: str) -> common_pb2.LabelSelector:
    return common_pb2.LabelSelector(conditions=labels)


@pytest.mark.parametrize(
    "welcome",
    [
        request(),
        request({"zone": "in(a,b)"}),
        request({"zone": "b"}, fallbacks=[fallback(zone="c"), fallback(zone="!b")]),
        request(node_id=HERE),
        request(node_id=ELSEWHERE, soft=True),
        request(cpus=9, node_id=HERE, soft=True),
        request(preferred=fallback(zone="z")),
    ],
)
def test_what_may_run_here(welcome: raylet_pb2.RequestLeases) -> None:
    assert NODE.objection(welcome) is None


@pytest.mark.parametrize(
    ("turned_down", "words", "final"),
    [
        (request({"zone": "b"}), "n1: its label zone is 'a', wanted 'b'", False),
        (request({"zone": "b"}, fallbacks=[fallback(gpu="yes")]), "or its label gpu is None", False),
        (request(node_id=ELSEWHERE), "is not in the cluster", True),
        (request(node_id=HERE, cpus=3), "needs CPU 3, has 2", True),
    ],
)
def test_what_may_not(turned_down: raylet_pb2.RequestLeases, words: str, final: bool) -> None:
    objection = NODE.objection(turned_down)
    assert objection is not None
    assert words in objection.reason
    assert objection.final is final
