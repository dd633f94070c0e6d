"""Fair shares and who gives back."""

from aktisd.raylet.fairness import Standing, dominant_share, excess_leases


def test_dominant_share() -> None:
    assert dominant_share({"CPU": 1, "GPU": 1}, {"CPU": 4, "GPU": 2}) == 0.5
    assert dominant_share({}, {"CPU": 4}) == 0.0
    assert dominant_share({"unknown": 3}, {"CPU": 4}) == 0.0


def test_nobody_gives_while_nobody_is_below_its_share() -> None:
    assert excess_leases({b"a": Standing(1.0, 1, 4, True)}) == {b"a": 0}
    both = {b"a": Standing(0.5, 1, 2, True), b"b": Standing(0.5, 1, 2, True)}
    assert excess_leases(both) == {b"a": 0, b"b": 0}


def test_a_job_keeps_its_fair_share() -> None:
    jobs = {b"a": Standing(1.0, 1, 3, True), b"b": Standing(0.0, 1, 0, True)}
    assert excess_leases(jobs)[b"a"] == 1
    jobs = {b"a": Standing(2 / 3, 1, 2, True), b"b": Standing(1 / 3, 1, 1, True)}
    assert excess_leases(jobs) == {b"a": 0, b"b": 0}


def test_weights() -> None:
    jobs = {b"a": Standing(1.0, 1, 4, True), b"b": Standing(0.0, 3, 0, True)}
    assert excess_leases(jobs)[b"a"] == 3


def test_with_fewer_leases_than_jobs_they_take_turns() -> None:
    jobs = {b"a": Standing(1.0, 1, 1, True), b"b": Standing(0.0, 1, 0, True)}
    assert excess_leases(jobs) == {b"a": 1, b"b": 0}
