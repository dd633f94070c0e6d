"""Traces of OpenTelemetry, which are on when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set: see docs/tracing.md."""

from aktis._runtime import tracing


def is_enabled() -> bool:
    """Whether this process records spans of tasks.

    Example:
        >>> is_enabled()
        False
    """
    return tracing.tracer is not None


def flush() -> None:
    """Export what this process has recorded until now, within a few seconds."""
    if is_enabled():
        tracing.flush()
