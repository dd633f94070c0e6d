"""Strategies, labels and what the runtime context says of a node, with a real one."""

import time
from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorUnschedulableError, TaskUnschedulableError
from aktis.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("scheduling_strategies")

LIMIT_S = 30.0
NOWHERE = "ab" * 16
"""The id of a node that is not there."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[aktis.Context]:
    labels = {"zone": "a", "tier": "gold", "example.com/rack": "r1"}
    with embedded(num_cpus=2, labels=labels) as context:
        yield context


@aktis.remote(num_cpus=0.1)
def node() -> str:
    return aktis.get_runtime_context().get_node_id()


@aktis.remote(num_cpus=0.1)
class Member:
    def node(self) -> str:
        return aktis.get_runtime_context().get_node_id()


def here() -> str:
    return aktis.get_runtime_context().get_node_id()


def run(**options: object) -> None:
    """A task and an actor with these options run on the only node."""
    assert aktis.get(node.options(**options).remote(), timeout=LIMIT_S) == here()  # type: ignore[call-overload]
    member = Member.options(**options).remote()
    assert aktis.get(member.node.remote(), timeout=LIMIT_S) == here()
    aktis.kill(member)


def wait_in_vain(capfd: pytest.CaptureFixture[str], *words: str, **options: object) -> None:
    """A task and an actor with these options wait, and the driver says why of each."""
    capfd.readouterr()
    task = node.options(**options).remote()  # type: ignore[call-overload]
    member = Member.options(**options).remote()
    call = member.node.remote()
    said = ""
    deadline = time.monotonic() + LIMIT_S
    while not all(said.count(word) >= 2 for word in words):
        assert time.monotonic() < deadline, said
        assert aktis.wait([task, call], timeout=0.05)[0] == []
        said += capfd.readouterr().err
    aktis.cancel(task)
    aktis.kill(member)


@pytest.mark.parametrize("strategy", ["DEFAULT", "SPREAD", None])
def test_plain_strategies(strategy: str | None) -> None:
    run(scheduling_strategy=strategy)


# ---- one node ----


@pytest.mark.parametrize("soft", [False, True])
def test_affinity_to_the_node_that_is_there(soft: bool) -> None:
    run(scheduling_strategy=NodeAffinitySchedulingStrategy(here(), soft=soft))


def test_soft_affinity_to_a_node_that_is_gone_runs_elsewhere() -> None:
    run(scheduling_strategy=NodeAffinitySchedulingStrategy(NOWHERE, soft=True))


def test_hard_affinity_to_a_node_that_is_gone_fails() -> None:
    strategy = NodeAffinitySchedulingStrategy(NOWHERE, soft=False)
    with pytest.raises(TaskUnschedulableError, match="is not in the cluster"):
        aktis.get(node.options(scheduling_strategy=strategy).remote(), timeout=LIMIT_S)
    member = Member.options(scheduling_strategy=strategy, max_restarts=-1).remote()
    with pytest.raises(ActorUnschedulableError):
        aktis.get(member.node.remote(), timeout=LIMIT_S)
    assert aktis.get(node.remote(), timeout=LIMIT_S) == here()


def test_hard_affinity_to_a_node_that_is_too_small_fails() -> None:
    strategy = NodeAffinitySchedulingStrategy(here(), soft=False)
    options = {"scheduling_strategy": strategy, "num_cpus": 64}
    with pytest.raises(TaskUnschedulableError, match="can never serve"):
        aktis.get(node.options(**options).remote(), timeout=LIMIT_S)  # type: ignore[call-overload]
    with pytest.raises(ActorUnschedulableError, match="CPU"):
        aktis.get(Member.options(**options).remote().node.remote(), timeout=LIMIT_S)


# ---- labels ----


def test_a_node_has_its_labels() -> None:
    @aktis.remote
    def labels() -> dict[str, str]:
        return aktis.get_runtime_context().get_node_labels()

    (listed,) = aktis.nodes()
    wanted = {"zone": "a", "tier": "gold", "example.com/rack": "r1", "aktis.io/node-id": here()}
    assert aktis.get_runtime_context().get_node_labels() == wanted
    assert aktis.get(labels.remote()) == wanted
    assert listed["Labels"] == wanted


@pytest.mark.parametrize(
    "selector",
    [
        {"zone": "a"},
        {"zone": "a", "tier": "gold"},
        {"zone": "!b"},
        {"colour": "!red"},
        {"zone": "in(a, b)"},
        {"zone": "!in(b, c)"},
        {"example.com/rack": "in(r1)"},
    ],
)
def test_label_selectors_that_hold(selector: dict[str, str]) -> None:
    run(label_selector=selector)


@pytest.mark.parametrize(
    "selector", [{"zone": "b"}, {"zone": "!in(a, b)"}, {"colour": "in(red)"}, {"zone": "a", "tier": "!gold"}]
)
def test_label_selectors_that_do_not_hold_wait_and_say_why(
    selector: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    label = next(name for name in reversed(selector))
    wait_in_vain(capfd, label, label_selector=selector)


def test_a_fallback_holds_where_the_selector_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    fallback = [{"label_selector": {"zone": "c"}}, {"label_selector": {"zone": "a"}}]
    run(label_selector={"zone": "b"}, fallback_strategy=fallback)
    wait_in_vain(capfd, "zone", label_selector={"zone": "b"}, fallback_strategy=fallback[:1])


@pytest.mark.parametrize(
    "hard",
    [
        {"zone": In("a", "b")},
        {"zone": NotIn("b"), "colour": NotIn("red")},
        {"zone": Exists(), "colour": DoesNotExist()},
    ],
)
def test_conditions_that_hold(hard: dict[str, Any]) -> None:
    run(scheduling_strategy=NodeLabelSchedulingStrategy(hard=hard))


def test_soft_conditions_never_keep_anything_waiting() -> None:
    run(scheduling_strategy=NodeLabelSchedulingStrategy(hard={}, soft={"zone": In("b")}))


@pytest.mark.parametrize("condition", [In("b"), NotIn("a"), DoesNotExist()])
def test_conditions_that_do_not_hold(condition: object, capfd: pytest.CaptureFixture[str]) -> None:
    strategy = NodeLabelSchedulingStrategy(hard={"zone": condition})  # type: ignore[dict-item]
    wait_in_vain(capfd, "zone", scheduling_strategy=strategy)


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scheduling_strategy": "PACK"}, ValueError, "'DEFAULT', 'SPREAD' or an object"),
        ({"scheduling_strategy": 5}, TypeError, "NodeAffinitySchedulingStrategy"),
        ({"label_selector": {"zone": "in()"}}, ValueError, "must list values"),
        ({"label_selector": {"-zone": "a"}}, ValueError, "letter or digit"),
        ({"label_selector": {"zone": 5}}, TypeError, "a dict of str by str"),
        ({"fallback_strategy": {}}, TypeError, "a list of dicts"),
        ({"fallback_strategy": [{"num_cpus": 1}]}, ValueError, "only hold 'label_selector'"),
        (
            {
                "label_selector": {"zone": "a"},
                "scheduling_strategy": NodeLabelSchedulingStrategy({"zone": Exists()}),
            },
            ValueError,
            "both have conditions on",
        ),
    ],
)
def test_options_that_are_not_valid(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        node.options(**options)
    with pytest.raises(error, match=words):
        Member.options(**options)


def test_strategies_that_are_not_valid() -> None:
    with pytest.raises(ValueError, match="must be hexadecimal"):
        NodeAffinitySchedulingStrategy("here", soft=True)
    with pytest.raises(TypeError, match="node_id must be a str"):
        NodeAffinitySchedulingStrategy(5, soft=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="soft must be True or False"):
        NodeAffinitySchedulingStrategy(NOWHERE, soft="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hard and soft are both empty"):
        NodeLabelSchedulingStrategy({})
    with pytest.raises(ValueError, match=r"must be In\(...\), NotIn"):
        NodeLabelSchedulingStrategy({"zone": "a"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="at least one value"):
        In()
    with pytest.raises(ValueError, match="takes str values"):
        NotIn(5)  # type: ignore[arg-type]
