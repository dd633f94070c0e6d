"""A hook for ``init(_tracing_startup_hook=...)``: spans go to a temporary folder."""

import os
import tempfile
from pathlib import Path


def setup_tracing() -> None:
    """Write every span that ends in this process as JSON to ``spans/<pid>.txt`` of that folder."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    folder = Path(tempfile.gettempdir()) / "spans"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    exporter = ConsoleSpanExporter(out=(folder / f"{os.getpid()}.txt").open("a"))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


__all__ = ["setup_tracing"]
