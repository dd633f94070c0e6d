"""Scraping a daemon's metrics over HTTP, as Prometheus does."""

import urllib.request
from pathlib import Path

from aktis._common.paths import SessionPaths
from aktis._common.records import DaemonRecord
from prometheus_client.parser import text_string_to_metric_families


def metrics_address(session_dir: str | Path, daemon: str) -> str:
    """Where a running daemon serves ``/metrics``, as ``host:port``."""
    record = DaemonRecord.read(SessionPaths.in_session(Path(session_dir)).daemon_record(daemon))
    assert record is not None
    return record.metrics_address


def scrape_text(session_dir: str | Path, daemon: str) -> str:
    """Return what a daemon shows."""
    address = metrics_address(session_dir, daemon)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        return str(reply.read().decode())


def scrape(session_dir: str | Path, daemon: str) -> dict[str, float]:
    """Return a daemon's values by name and labels: ``name`` or ``name{a=b,c=d}``."""
    found = {}
    for family in text_string_to_metric_families(scrape_text(session_dir, daemon)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
