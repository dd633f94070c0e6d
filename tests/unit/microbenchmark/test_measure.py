"""Rates, under a clock of our own."""

from __future__ import annotations

import pytest
from aktis._microbenchmark.measure import measure_row, rate
from aktis._microbenchmark.model import Load, Row, Sample


class FakeClock:
    """Time that passes only when a step says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def test_rate_is_amount_per_measured_second() -> None:
    clock = FakeClock()
    load = Load(step=lambda: clock.advance(0.5), amount=10)
    assert rate(load, seconds=2.0, warmup_s=1.0, clock=clock) == Sample(value=20.0, steps=4, elapsed_s=2.0)
    assert clock.now_s == 3.0


def test_reset_is_not_measured() -> None:
    clock = FakeClock()
    load = Load(step=lambda: clock.advance(1.0), reset=lambda: clock.advance(100.0))
    assert rate(load, seconds=3.0, warmup_s=0.0, clock=clock).value == 1.0


def test_a_slow_step_runs_once_to_warm_and_once_to_measure() -> None:
    clock = FakeClock()
    sample = rate(Load(step=lambda: clock.advance(60.0)), seconds=1.0, warmup_s=0.1, clock=clock)
    assert (sample.steps, sample.elapsed_s, clock.now_s) == (1, 60.0, 120.0)


@pytest.mark.parametrize(("seconds", "warmup_s"), [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1)])
def test_durations_must_make_sense(seconds: float, warmup_s: float) -> None:
    with pytest.raises(ValueError, match="seconds must be > 0"):
        rate(Load(step=lambda: None), seconds, warmup_s)


def test_a_load_is_closed_also_when_its_step_fails() -> None:
    closed: list[bool] = []

    def broken() -> None:
        raise RuntimeError("step")

    row = Row("row", "calls/s", lambda api, clients: Load(step=broken, close=lambda: closed.append(True)))
    with pytest.raises(RuntimeError, match="step"):
        measure_row(None, row, clients=1, seconds=1.0, warmup_s=0.0)  # type: ignore[arg-type]
    assert closed == [True]
