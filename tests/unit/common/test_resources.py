"""Fixed-point resources behave as a set of exact, non-negative amounts."""

import pytest
from aktis._common.resources import MAX_STEPS, STEPS_PER_UNIT, ResourceSet
from aktis._proto import common_pb2
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from(["CPU", "GPU", "memory", "special"])
SETS = st.builds(ResourceSet, st.dictionaries(NAMES, st.integers(0, 10**9)))


@given(SETS, SETS)
def test_addition_and_subtraction_are_inverse(a: ResourceSet, b: ResourceSet) -> None:
    assert a + b == b + a
    assert (a + b) - b == a
    assert hash(a + b) == hash(b + a)


@given(SETS, SETS)
def test_fits_means_that_subtraction_works(demand: ResourceSet, available: ResourceSet) -> None:
    if demand.fits(available):
        assert (available - demand) + demand == available
        assert not demand.missing(available)
    else:
        with pytest.raises(ValueError, match="cannot take"):
            available - demand
        assert demand.fits(available + demand.missing(available))


@given(SETS, SETS, st.integers(0, 20))
def test_count_that_fits_is_the_largest(demand: ResourceSet, available: ResourceSet, limit: int) -> None:
    count = demand.count_that_fits(available, limit)
    assert demand.scale(count).fits(available)
    assert count == limit or not demand.scale(count + 1).fits(available)


@given(SETS, st.frozensets(NAMES))
def test_only_and_without_split_a_set(amounts: ResourceSet, names: frozenset[str]) -> None:
    assert amounts.only(names) + amounts.without(names) == amounts
    assert not set(amounts.only(names)) - names


@given(SETS)
def test_messages_and_floats_round_trip(amounts: ResourceSet) -> None:
    assert ResourceSet.from_proto(amounts.to_proto()) == amounts
    assert ResourceSet.of(amounts.to_floats()) == amounts


def test_fractions_add_up_exactly() -> None:
    tenth = ResourceSet.of({"CPU": 0.1})
    total = ResourceSet()
    for _ in range(10):
        total = total + tenth
    assert total == ResourceSet.of({"CPU": 1}) == tenth.scale(10)


def test_zero_is_the_same_as_absent() -> None:
    assert ResourceSet.of({"CPU": 0, "GPU": 1}) == ResourceSet.of({"GPU": 1})
    assert ResourceSet()["CPU"] == 0
    assert "CPU" not in ResourceSet.of({"CPU": 0})


@pytest.mark.parametrize(
    ("amounts", "error", "text"),
    [
        ({"CPU": -1}, ValueError, "'CPU' must be finite and not negative, got -1"),
        ({"CPU": float("nan")}, ValueError, "finite"),
        ({"CPU": float("inf")}, ValueError, "finite"),
        ({"CPU": 0.00001}, ValueError, "smallest step"),
        ({"CPU": "2"}, TypeError, "'CPU' must be a number, got str '2'"),
        ({"CPU": True}, TypeError, "must be a number, got bool"),
        ({"memory": 10**16}, ValueError, "larger than"),
        ({"": 1}, ValueError, "name"),
        ({"a\nb": 1}, ValueError, "printable"),
        ({"x" * 129: 1}, ValueError, "1 to 128"),
        ({7: 1}, TypeError, "name must be a string"),
    ],
)
def test_wrong_amounts_are_named(amounts: dict[str, float], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ResourceSet.of(amounts)


@pytest.mark.parametrize("steps", [-1, MAX_STEPS + 1])
def test_amounts_of_peers_are_checked(steps: int) -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        ResourceSet({"CPU": steps})
    if steps < 0:
        with pytest.raises(ValueError, match="between 0 and"):
            ResourceSet.from_proto(common_pb2.Resources(amounts={"CPU": steps}))


def test_text_for_people() -> None:
    assert str(ResourceSet({"CPU": STEPS_PER_UNIT // 2, "GPU": 2 * STEPS_PER_UNIT})) == "0.5 CPU, 2 GPU"
    assert str(ResourceSet()) == "nothing"
