"""Spans of OpenTelemetry around tasks. Off, nothing of it is imported, and a task pays for one comparison.

A task carries the trace context of its submission whether this is on or not. On, the context is that of a
real span: one for the submission, which is over at once, and below it one for the execution, in which the
user's own spans nest.
"""

import contextlib
import copyreg
import importlib
import os
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final

from aktis import _core
from aktis._core import Task
from aktis.exceptions import AktisWarning

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

HOOK: Final = "hook"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS: Final = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
FLUSH_TIMEOUT_MS: Final = 5_000

tracer: "Tracer | None" = None
"""What makes the spans; None: tracing is off."""
_hooks_run: set[str] = set()


def wished(hook: str | None) -> dict[str, str] | None:
    """Return how this program and its workers are to trace, None: not at all.

    Args:
        hook: ``"module:function"``, called in every process to set OpenTelemetry up; None: OTLP is used if
            the variables of OpenTelemetry name an endpoint.

    Raises:
        TypeError, ValueError: ``hook`` is not of that form.
    """
    if hook is not None:
        if not isinstance(hook, str):
            raise TypeError(f"_tracing_startup_hook must be a str, got {type(hook).__name__} {hook!r}")
        module, separator, function = hook.partition(":")
        if not (separator and module and function.isidentifier()):
            raise ValueError(f"_tracing_startup_hook must be 'module:function', got {hook!r}")
    elif not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    variables = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    return variables | {HOOK: hook or ""}


def start(wish: Mapping[str, str]) -> None:
    """Trace from now on in this process. A second call changes nothing.

    Raises:
        Exception: what the hook raises.
    """
    global tracer
    if tracer is not None:
        return
    for name, value in wish.items():
        if name != HOOK:
            os.environ.setdefault(name, value)
    from opentelemetry import trace

    if hook := wish.get(HOOK):
        _run_hook(hook)
    elif not _has_provider() and not _export():
        return
    tracer = trace.get_tracer("aktis", _core.__version__)
    copyreg.pickle(type(tracer), _reduce_tracer)
    _core.set_trace_source(_submitted)


def stop() -> None:
    """Hand over what is left, and trace no more."""
    global tracer
    if tracer is not None:
        _core.set_trace_source(None)
        tracer = None
        flush()


def flush() -> None:
    """Export what has been recorded, within a few seconds."""
    from opentelemetry import trace

    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is not None:
        force_flush(FLUSH_TIMEOUT_MS)


def traced(call: Callable[..., Any], task: Task) -> Callable[..., Any]:
    """Return what does the same as ``call``, for this task, in a span. Only when tracing is on."""

    def run(*args: Any, **kwargs: Any) -> Any:
        span = _begin(task)
        with _current(span):
            result = call(*args, **kwargs)
        if iscoroutine(result):
            return _awaited(span, result)
        if task.is_generator and isinstance(result, Iterator):
            return _items(span, result)
        if task.is_generator and isinstance(result, AsyncIterator):
            return _async_items(span, result)
        span.end()
        return result

    return run


# ---- setting up ----


def _reduce_tracer(one: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Tracers are globals of many programs, to which functions refer: where one arrives it is made anew."""
    from opentelemetry import trace

    scope = one._instrumentation_scope  # public only on spans
    return trace.get_tracer, (scope.name, scope.version, None, scope.schema_url)


def _has_provider() -> bool:
    """Whether the program has set OpenTelemetry up itself."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    return isinstance(trace.get_tracer_provider(), TracerProvider)


def _run_hook(hook: str) -> None:
    if hook not in _hooks_run:
        module, _, function = hook.partition(":")
        getattr(importlib.import_module(module), function)()
        _hooks_run.add(hook)


def _export() -> bool:
    """Send spans to the endpoint that the environment names; False when nothing here can."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "http/protobuf")
    module = _EXPORTERS.get(protocol)
    if module is None:
        _advise(f"OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc, got {protocol!r}")
        return False
    try:
        exporter = importlib.import_module(module).OTLPSpanExporter()
    except ImportError as error:
        extra = "pip install aktis[tracing]" if protocol == "http/protobuf" else f"install {error.name}"
        _advise(f"the exporter of OpenTelemetry is missing ({error}): {extra}, or unset the endpoint")
        return False
    resource = Resource.create({"service.name": "aktis"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return True


def _advise(text: str) -> None:
    warnings.warn(f"tracing is off although an endpoint is set: {text}", AktisWarning, stacklevel=2)


# ---- spans ----


def _submitted(name: str) -> bytes:
    """Record a submission; return the context that the task carries. Called by the core."""
    from opentelemetry.trace import SpanKind

    if tracer is None:  # stopped by another thread
        return b""
    span = tracer.start_span(f"submit {name}", kind=SpanKind.PRODUCER, attributes={"aktis.task.name": name})
    span.end()
    context = span.get_span_context()
    if not context.is_valid:
        return b""
    ids = context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big")
    return ids + bytes([context.trace_flags])


def _begin(task: Task) -> "Span":
    """Start the span of an execution: it began when the task did; its arguments are here now."""
    from opentelemetry import trace
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

    assert tracer is not None, "asked by who calls"
    carried = task.trace
    sender = SpanContext(
        int.from_bytes(carried[:16], "big"),
        int.from_bytes(carried[16:24], "big"),
        is_remote=True,
        trace_flags=TraceFlags(carried[24]),
    )
    attributes: dict[str, str | int] = {
        "aktis.task.name": task.name,
        "aktis.task.id": task.task_id.hex(),
        "aktis.task.attempt": task.attempt,
        "aktis.job.id": task.job_id.hex(),
        "process.pid": os.getpid(),
    }
    if any(task.actor_id):
        attributes["aktis.actor.id"] = task.actor_id.hex()
    span = tracer.start_span(
        f"run {task.name}",
        trace.set_span_in_context(trace.NonRecordingSpan(sender)),
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        start_time=task.start_unix_ns or time.time_ns(),
    )
    span.add_event("arguments fetched")
    return span


@contextlib.contextmanager
def _current(span: "Span") -> Iterator[None]:
    """Make ``span`` the one in which others nest; ends it with the exception that passes through."""
    from opentelemetry import context, trace

    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    except BaseException as error:
        if not isinstance(error, GeneratorExit):
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        span.end()
        raise
    finally:
        context.detach(token)


async def _awaited(span: "Span", coroutine: Coroutine[Any, Any, Any]) -> Any:
    with _current(span):
        result = await coroutine
    span.end()
    return result


def _items(span: "Span", iterator: Iterator[Any]) -> Iterator[Any]:
    with _current(span):
        yield from iterator
    span.end()


async def _async_items(span: "Span", iterator: AsyncIterator[Any]) -> AsyncIterator[Any]:
    with _current(span):
        async for item in iterator:
            yield item
    span.end()
