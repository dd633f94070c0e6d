"""Spans of tasks, as an OTLP receiver gets them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aktis
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.clients import run_program
from tests.support.sandbox import Sandbox

Kind = trace_pb2.Span.SpanKind


@dataclass
class Receiver:
    """A server that keeps the spans it is sent."""

    url: str
    spans: list[trace_pb2.Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def take(self, body: bytes) -> None:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.services.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def one(self, name: str) -> trace_pb2.Span:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def tree(self) -> set[tuple[str, ...]]:
        """The names of each span and of those above it, the outermost first."""
        by_id = {span.span_id: span for span in self.spans}

        def path(span: trace_pb2.Span) -> tuple[str, ...]:
            above = by_id.get(span.parent_span_id)
            assert above is not None or not span.parent_span_id, f"{span.name} has a parent that never came"
            return (*(path(above) if above is not None else ()), span.name)

        return {path(span) for span in self.spans}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002  the base class calls it so

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield receiver
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span: trace_pb2.Span) -> dict[str, Any]:
    values = {one.key: one.value for one in span.attributes}
    return {key: getattr(value, str(value.WhichOneof("value"))) for key, value in values.items()}


NESTED = """
import asyncio
import aktis
from opentelemetry import trace

aktis.init(address="local", num_cpus=2)
tracer = trace.get_tracer("program")

@aktis.remote
def leaf():
    with tracer.start_as_current_span("inside"):
        pass
    return aktis.get_runtime_context().get_trace_id()

@aktis.remote
def branch(counter):
    return aktis.get([leaf.remote(), counter.add.remote()])[0]

@aktis.remote
class Counter:
    def __init__(self):
        self.n = 0
        leaf.options(name="made").remote()
    def add(self):
        self.n += 1

@aktis.remote
class Waiter:
    async def wait(self):
        await asyncio.sleep(0)
        return await leaf.options(name="awaited").remote()
    async def items(self):
        for _ in range(2):
            yield await leaf.options(name="item").remote()

@aktis.remote
def numbers():
    yield 1
    with tracer.start_as_current_span("between"):
        yield 2

@aktis.remote
def fail():
    raise ValueError("on purpose")

with tracer.start_as_current_span("program") as span:
    counter = Counter.remote()
    assert int(aktis.get(branch.remote(counter)), 16) == span.get_span_context().trace_id
waiter = Waiter.remote()
aktis.get(waiter.wait.remote())
assert len(aktis.get(list(waiter.items.options(num_returns="streaming").remote()))) == 2
assert aktis.get(list(numbers.remote())) == [1, 2]
try:
    aktis.get(fail.remote())
except ValueError:
    pass
else:
    raise AssertionError
aktis.shutdown()
"""


def test_spans_of_a_nested_program(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.added_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    finished = run_program(sandbox, NESTED)
    assert finished.returncode == 0, finished.stderr
    branch = ("program", "submit branch", "run branch")
    made = ("program", "submit Counter.__init__", "run Counter.__init__")
    assert receiver.tree() >= {
        (*branch, "submit leaf", "run leaf", "inside"),
        (*branch, "submit Counter.add", "run Counter.add"),
        (*made, "submit made", "run made", "inside"),
        ("submit Waiter.wait", "run Waiter.wait", "submit awaited", "run awaited", "inside"),
        ("submit Waiter.items", "run Waiter.items", "submit item", "run item", "inside"),
        ("submit numbers", "run numbers", "between"),
    }
    assert receiver.services == {"aktis"}
    run, submitted = receiver.one("run branch"), receiver.one("submit branch")
    assert (submitted.kind, run.kind) == (Kind.SPAN_KIND_PRODUCER, Kind.SPAN_KIND_CONSUMER)
    assert submitted.end_time_unix_nano <= run.end_time_unix_nano
    facts = attributes(run)
    assert facts["aktis.task.name"] == "branch"
    assert len(facts["aktis.task.id"]) == 32
    assert facts["process.pid"] > 0
    assert attributes(receiver.one("run Counter.add"))["aktis.actor.id"]
    failed = receiver.one("run fail")
    assert failed.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert failed.status.message == "ValueError: on purpose"
    assert [event.name for event in failed.events] == ["arguments fetched", "exception"]


def test_a_hook_sets_tracing_up_in_every_process(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.added_env["TMPDIR"] = str(tmp_path)
    finished = run_program(
        sandbox,
        """
import aktis.compat
aktis.compat.install_as_ray()
import ray
from ray.util.tracing.tracing_helper import is_tracing_enabled
ray.init(num_cpus=1, _tracing_startup_hook="ray.util.tracing.setup_local_tmp_tracing:setup_tracing")
@ray.remote
def f():
    return is_tracing_enabled()
assert is_tracing_enabled() and ray.get(f.remote())
ray.shutdown()
assert not is_tracing_enabled()
""",
    )
    assert finished.returncode == 0, finished.stderr
    spans = [path.read_text() for path in (tmp_path / "spans").iterdir()]
    found = sorted(('"submit f"' in text, '"run f"' in text) for text in spans)
    assert found == [(False, True), (True, False)]


def test_a_hook_that_fails_in_a_worker_fails_its_tasks(sandbox: Sandbox) -> None:
    finished = run_program(
        sandbox,
        """
import os, sys, types
import aktis
module = types.ModuleType("only_here")
module.start = lambda: None
sys.modules["only_here"] = module
aktis.init(num_cpus=1, _tracing_startup_hook="only_here:start")
try:
    aktis.get(aktis.remote(lambda: 1).options(max_retries=0).remote(), timeout=30)
except ModuleNotFoundError as error:
    print(error)
aktis.shutdown()
""",
    )
    assert finished.returncode == 0, finished.stderr
    assert "No module named 'only_here'" in finished.stdout


def test_without_an_exporter_a_program_is_warned_and_runs(sandbox: Sandbox) -> None:
    sandbox.added_env |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    finished = run_program(
        sandbox,
        """
import aktis
with aktis.init(num_cpus=1):
    assert aktis.get(aktis.remote(lambda: 1).remote()) == 1
""",
    )
    assert finished.returncode == 0, finished.stderr
    assert "the exporter of OpenTelemetry is missing" in finished.stderr


@pytest.mark.parametrize(("hook", "kind"), [("nothing", ValueError), (":f", ValueError), (3, TypeError)])
def test_what_is_no_hook(hook: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="_tracing_startup_hook must be"):
        aktis.init(num_cpus=1, _tracing_startup_hook=hook)
