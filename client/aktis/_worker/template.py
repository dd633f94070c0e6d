"""The process that workers are forked from: everything is imported once, a worker costs milliseconds.

Run by the raylet as ``python -m aktis._worker.template``. It has exactly one thread, no reactor and no
gRPC, so that fork is safe; it blocks in ``poll`` on the raylet's socket and on a descriptor that SIGCHLD
writes to. It is the parent of the workers, so only it learns their exit status, which it reports. When the
raylet's socket closes it exits; workers stay.
"""

import argparse
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

from aktis import _core
from aktis._proto import raylet_pb2
from aktis._runtime.job import JobPlace
from aktis._worker.start import WorkerStart

PRELOADED: Final = ("numpy", "aktis._runtime.pickler")
ENTRY_POINT: Final = "aktis._worker.main:run"
FORKS_PER_REPORT: Final = 16
"""A long batch is reported in parts: the raylet watches the first workers while the last are forked."""
MAX_MESSAGE_BYTES: Final = 1 << 20
HANDSHAKE_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 30.0
OOM_SCORE_ADJUST: Final = 500
"""Makes the kernel prefer workers to daemons when memory runs out; raising it needs no privilege."""

Frame = tuple[int, int, int, bytes]
"""Type, flags, correlation, payload."""


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """The command line."""

    raylet: str
    token_file: Path
    node_id: bytes
    session_dir: str
    sockets_dir: str
    plasma: str
    entry_point: str
    template_id: bytes = b""
    """By which the raylet recognizes the process that it started."""
    environment: str = ""
    """The runtime environment that it serves; empty for the common template."""
    working_dir: str = ""
    import_path: tuple[str, ...] = ()
    own_interpreter: bool = False


class ProtocolError(Exception):
    """The raylet said something that does not belong here."""


class Template:
    """The loop. Belongs to the process's only thread."""

    def __init__(
        self, options: TemplateOptions, token: str, run_worker: Callable[[WorkerStart], int]
    ) -> None:
        self._options = options
        self._token = token
        self._run_worker = run_worker
        self._tokens: dict[int, int] = {}
        # Orders that came in the same read as the answer to the handshake.
        self._early: list[Frame] = []
        self._decoder = _core.FrameDecoder(MAX_MESSAGE_BYTES)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def connect(self) -> None:
        """Connect and shake hands; raises ConnectionError with the raylet's reason when it refuses."""
        self._socket.settimeout(HANDSHAKE_TIMEOUT_S)
        self._socket.connect(self._options.raylet.removeprefix("unix:"))
        hello = _core.encode_hello(
            role=_core.ROLE_TEMPLATE,
            sender=self._options.template_id or os.urandom(16),
            node=self._options.node_id,
            token=self._token,
            pid=os.getpid(),
        )
        self._socket.sendall(_core.encode_frame(_core.FRAME_HELLO, 0, 0, hello))
        frames: list[Frame] = []
        while not frames:
            frames = self._receive()
        (kind, _, _, payload), *self._early = frames
        if kind == _core.FRAME_HELLO_REJECT:
            raise ConnectionError(f"the raylet refused the template: {_core.decode_reject(payload)[1]}")
        if kind != _core.FRAME_HELLO_ACK:
            raise ConnectionError(f"the raylet answered the handshake with a frame of type {kind}")
        self._socket.settimeout(SEND_TIMEOUT_S)

    def serve(self) -> None:
        """Fork and report until the raylet's socket closes."""
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        for kind, _, _, payload in self._early:
            self._on_frame(kind, payload)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            if self._wake_read in ready:
                self._drain_wakeups()
            self._reap()
            if self._socket.fileno() in ready:
                for kind, _, _, payload in self._receive():
                    self._on_frame(kind, payload)

    def _receive(self) -> list[Frame]:
        data = self._socket.recv(65536)
        if not data:
            raise EOFError
        return self._decoder.feed(data)

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind != _core.FRAME_CONTROL:
            raise ProtocolError(f"frame type {kind}")
        message = raylet_pb2.RayletMessage.FromString(payload)
        if message.WhichOneof("body") != "fork":
            raise ProtocolError(f"message {message.WhichOneof('body')}")
        self._fork_all(message.fork.start_tokens, message.fork.log_dir)

    def _fork_all(self, tokens: Sequence[int], log_dir: str) -> None:
        report = raylet_pb2.TemplateForked()
        for token in tokens:
            self._fork_one(token, log_dir, report.children.add(start_token=token))
            if len(report.children) == FORKS_PER_REPORT:
                self._send(raylet_pb2.ClientMessage(template_forked=report))
                self._reap()
                report = raylet_pb2.TemplateForked()
        if report.children:
            self._send(raylet_pb2.ClientMessage(template_forked=report))

    def _fork_one(self, token: int, log_dir: str, child: raylet_pb2.TemplateForked.Child) -> None:
        child.stdout_path = f"{log_dir}/worker-{token:016x}.out"
        child.stderr_path = f"{log_dir}/worker-{token:016x}.err"
        try:
            out = _open_log(child.stdout_path)
            err = _open_log(child.stderr_path)
            pid = os.fork()
        except OSError as error:
            child.error = f"cannot fork a worker: {error}"
            return
        if pid == 0:
            self._become_worker(token, child.stdout_path, child.stderr_path, out, err)
        os.close(out)
        os.close(err)
        self._tokens[pid] = token
        child.pid = pid

    def _become_worker(self, token: int, stdout_path: str, stderr_path: str, out: int, err: int) -> None:
        """In the child: leave everything of the template behind, then be a worker; never returns."""
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._socket.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            _redirect(out, err)
            _write_oom_score()
            _reseed()
            status = self._run_worker(self._start(token, stdout_path, stderr_path))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())  # its last words, in the worker's stderr file
        finally:
            _flush()
            os._exit(status)

    def _start(self, token: int, stdout_path: str, stderr_path: str) -> WorkerStart:
        return WorkerStart(
            start_token=token,
            worker_id=os.urandom(16),
            node_id=self._options.node_id,
            raylet_address=self._options.raylet,
            plasma_address=self._options.plasma,
            session_dir=self._options.session_dir,
            sockets_dir=self._options.sockets_dir,
            stdout_path=stdout_path,
            stderr_path=stderr_path,
            token=self._token,
            place=JobPlace(
                self._options.environment,
                self._options.working_dir,
                self._options.import_path,
                self._options.own_interpreter,
            ),
        )

    def _reap(self) -> None:
        report = raylet_pb2.TemplateChildExited()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            token = self._tokens.pop(pid, None)
            if token is not None:
                killed = os.WIFSIGNALED(status)
                report.children.add(
                    start_token=token,
                    pid=pid,
                    exit_code=0 if killed else os.WEXITSTATUS(status),
                    signal=os.WTERMSIG(status) if killed else 0,
                )
        if report.children:
            self._send(raylet_pb2.ClientMessage(template_child_exited=report))

    def _send(self, message: raylet_pb2.ClientMessage) -> None:
        self._socket.sendall(_core.encode_frame(_core.FRAME_CONTROL, 0, 0, message.SerializeToString()))

    def _drain_wakeups(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD needs a handler so that it reaches the wake-up descriptor."""


def _open_log(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _redirect(out: int, err: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for fd in (null, out, err):
        os.close(fd)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # A segmentation fault leaves its Python stack in the stderr file, whose end is shown with the cause.
    faulthandler.enable(sys.stderr)


def _write_oom_score() -> None:
    with open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < OOM_SCORE_ADJUST:
            file.seek(0)
            file.write(str(OOM_SCORE_ADJUST))


def _reseed() -> None:
    """Python's own generator reseeds itself after a fork; with numpy's all workers would draw the same."""
    module = sys.modules.get("numpy.random")
    if module is not None:
        module.seed()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the disk is full or user code closed it: nowhere left to say so


def load_entry_point(text: str) -> Callable[[WorkerStart], int]:
    """The function that ``module:function`` names; imported here, it costs the workers nothing."""
    module_name, separator, function = text.partition(":")
    if not separator:
        raise ValueError(f"worker entry point {text!r} must be MODULE:FUNCTION")
    module: ModuleType = importlib.import_module(module_name)
    run: Callable[[WorkerStart], int] = getattr(module, function)
    return run


def _check_single_threaded() -> None:
    threads = os.listdir("/proc/self/task")
    if len(threads) != 1:
        raise RuntimeError(
            f"the worker template has {len(threads)} threads, so that forking it is not safe: "
            "a module that it preloads has started one"
        )


def _parse(argv: Sequence[str] | None) -> TemplateOptions:
    parser = argparse.ArgumentParser(prog="aktis-template", description="Fork worker processes for a raylet.")
    for name in ("--raylet", "--token-file", "--node-id", "--session-dir", "--sockets-dir", "--plasma"):
        parser.add_argument(name, required=True)
    parser.add_argument("--entry-point", default=ENTRY_POINT)
    for name in ("--template-id", "--environment", "--working-dir", "--import-path"):
        parser.add_argument(name, default="")
    parser.add_argument("--own-interpreter", action="store_true")
    found = parser.parse_args(argv)
    return TemplateOptions(
        raylet=found.raylet,
        token_file=Path(found.token_file),
        node_id=bytes.fromhex(found.node_id),
        session_dir=found.session_dir,
        sockets_dir=found.sockets_dir,
        plasma=found.plasma,
        entry_point=found.entry_point,
        template_id=bytes.fromhex(found.template_id),
        environment=found.environment,
        working_dir=found.working_dir,
        import_path=tuple(part for part in found.import_path.split(os.pathsep) if part),
        own_interpreter=found.own_interpreter,
    )


def _import_all(entry_point: str) -> Callable[[WorkerStart], int]:
    run_worker = load_entry_point(entry_point)
    for name in PRELOADED:
        importlib.import_module(name)
    return run_worker


def _export_path(import_path: Sequence[str]) -> None:
    """Let the subprocesses of workers find the environment's modules, too.

    Not before our own imports, which nothing in it may replace. Workers set their path when they know
    their job.
    """
    if import_path:
        given = [path for path in (os.environ.get("PYTHONPATH"),) if path]
        os.environ["PYTHONPATH"] = os.pathsep.join([*import_path, *given])


def main(argv: Sequence[str] | None = None) -> int:
    """Import, connect, serve; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if list(arguments) == ["--check"]:  # whether this interpreter, as it is here, can be a template
        _import_all(ENTRY_POINT)
        return 0
    options = _parse(arguments)
    faulthandler.enable(sys.stderr)
    token = options.token_file.read_text().strip()
    run_worker = _import_all(options.entry_point)
    _export_path(options.import_path)
    template = Template(options, token, run_worker)
    template.connect()
    _check_single_threaded()
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, pages that parent and children share
    try:
        template.serve()
    except (EOFError, ConnectionError):
        return 0  # the raylet is gone; the workers are none of our business any more
    return 1


if __name__ == "__main__":
    sys.exit(main())
