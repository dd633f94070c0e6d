"""The ledger: devices, fractions, lending, explanations; what malformed requests are told."""

import pytest
from aktisd.raylet.resources import Ledger, check_request, describe

from tests.support.fake_node import units


def test_fractions_of_a_device_share_one_instance_and_whole_ones_stay_whole() -> None:
    ledger = Ledger(units(CPU=8, GPU=2))
    half = [ledger.allocate(units(GPU=0.5)) for _ in range(2)]
    assert [a and a.devices() for a in half] == [{"GPU": (0,)}] * 2
    whole = ledger.allocate(units(GPU=1))
    assert whole is not None
    assert whole.devices() == {"GPU": (1,)}
    assert ledger.allocate(units(GPU=0.1)) is None
    ledger.validate()


def test_enough_in_sum_but_no_whole_device_does_not_fit() -> None:
    ledger = Ledger(units(GPU=2, CPU=1))
    first, second = ledger.allocate(units(GPU=0.6)), ledger.allocate(units(GPU=0.6))
    assert first is not None
    assert second is not None
    assert not ledger.fits(units(GPU=0.5))
    ledger.release(first)
    assert ledger.fits(units(GPU=1))
    ledger.validate()


def test_release_twice_is_an_error() -> None:
    ledger = Ledger(units(CPU=1))
    allocation = ledger.allocate(units(CPU=1))
    assert allocation is not None
    ledger.release(allocation)
    with pytest.raises(ValueError, match="released before"):
        ledger.release(allocation)


def test_lent_cpu_comes_back_at_once_and_release_counts_it_right() -> None:
    ledger = Ledger(units(CPU=1))
    allocation = ledger.allocate(units(CPU=1))
    assert allocation is not None
    assert ledger.lend_cpu(allocation)
    assert not ledger.lend_cpu(allocation)
    other = ledger.allocate(units(CPU=1))
    assert other is not None
    ledger.take_cpu_back(allocation)
    assert ledger.available["CPU"] == -10_000
    ledger.release(other)
    ledger.release(allocation)
    assert ledger.available == units(CPU=1)


def test_what_is_lacking_for_ever_is_said_in_units() -> None:
    ledger = Ledger(units(CPU=2, memory=2**30))
    assert ledger.lacking_ever(units(CPU=2.5, memory=2**31)) == [
        "needs CPU 2.5, has 2",
        "needs memory 2048.0 MiB, has 1024.0 MiB",
    ]
    assert ledger.lacking_ever(units(CPU=2)) == []


def test_total_of_a_custom_resource_can_change_and_that_of_devices_cannot() -> None:
    ledger = Ledger(units(CPU=1, GPU=1))
    ledger.set_total("special", 20_000)
    assert ledger.fits(units(special=2))
    with pytest.raises(ValueError, match="counts devices"):
        ledger.set_total("GPU", 20_000)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"CPU": 0}, "out of range"),
        ({"CPU": -1}, "out of range"),
        ({"": 1}, "1 to 128 characters"),
        ({"GPU": 15_000}, "whole number"),
        ({"CPU": 2**62}, "out of range"),
    ],
)
def test_malformed_requests(request_: dict[str, int], problem: str) -> None:
    assert problem in (check_request(request_) or "")


def test_good_requests_and_descriptions() -> None:
    assert check_request(units(CPU=0.1, GPU=0.5, x=3)) is None
    assert describe(units(GPU=0.5, CPU=2)) == "{CPU: 2, GPU: 0.5}"
