"""Lines on their way to the driver: counted repeats, rate limit, sources."""

from aktisd.raylet.log_lines import LineSource, LogLines

SOURCE = LineSource(b"job1", b"w1", 7, "f", False)
OTHER = LineSource(b"job1", b"w2", 8, "f", False)


def lines(rate: int = 100, window_s: float = 1.0) -> LogLines:
    return LogLines(rate, window_s, lambda job: job == b"job1")


def texts(log: LogLines, now: float) -> list[tuple[str, int]]:
    return [(line.text, line.repeats) for _, batch in log.take(now) for line in batch.lines]


def test_equal_lines_of_several_workers_are_sent_once_and_counted() -> None:
    log = lines()
    log.add(SOURCE, ["hello", "other"], 0.0)
    log.add(OTHER, ["hello"], 0.1)
    log.add(OTHER, ["hello"], 0.2)
    assert texts(log, 0.3) == [("hello", 1), ("other", 1)]
    assert log.next_deadline(0.3) == 1.0
    assert texts(log, 1.0) == [("hello", 2)]
    assert log.next_deadline(1.0) is None


def test_the_last_one_who_repeats_a_line_is_named() -> None:
    log = lines()
    log.add(SOURCE, ["hello"], 0.0)
    log.add(OTHER, ["hello"], 0.1)
    said = [
        (line.pid, line.repeats) for now in (0.2, 1.0) for _, batch in log.take(now) for line in batch.lines
    ]
    assert said == [(7, 1), (8, 1)]


def test_repeats_are_said_early_when_the_job_ends() -> None:
    log = lines()
    log.add(SOURCE, ["hello", "hello", "hello", "once"], 0.0)
    log.end_windows(b"job1", 0.1)
    log.end_windows(b"other", 0.1)
    assert texts(log, 0.1) == [("hello", 1), ("once", 1), ("hello", 2)]
    assert log.next_deadline(0.1) is None


def test_stderr_and_stdout_are_different_lines() -> None:
    log = lines()
    log.add(SOURCE, ["x"], 0.0)
    log.add(LineSource(b"job1", b"w1", 7, "f", True), ["x"], 0.0)
    assert texts(log, 0.0) == [("x", 1), ("x", 1)]


def test_flood_is_cut_and_counted_and_recovers() -> None:
    log = lines(rate=10, window_s=0.0)
    log.add(SOURCE, [str(n) for n in range(100)], 0.0)
    ((_, batch),) = log.take(0.0)
    assert (len(batch.lines), batch.dropped) == (10, 90)
    log.add(SOURCE, ["later"], 1.0)
    assert texts(log, 1.0) == [("later", 1)]


def test_jobs_without_a_listening_driver_cost_nothing() -> None:
    log = lines()
    log.add(LineSource(b"job2", b"w", 1, "f", False), ["x"], 0.0)
    log.add(LineSource(b"", b"w", 1, "", False), ["x"], 0.0)
    assert log.take(0.0) == []
    assert log.next_deadline(0.0) is None


def test_long_lines_are_cut() -> None:
    log = lines()
    log.add(SOURCE, ["x" * 100_000], 0.0)
    ((text, _),) = texts(log, 0.0)
    assert len(text) == 16_384
