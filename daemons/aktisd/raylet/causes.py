"""Why a process died: what was intended, what was seen, and one sentence for people. Pure."""

import signal as signals

from aktis._proto import common_pb2

Kind = common_pb2.DeathCause.Kind
Cause = common_pb2.DeathCause

STDERR_TAIL_BYTES = 4096


def cause(kind: Kind.ValueType, message: str) -> Cause:
    """A cause that somebody decided on."""
    return Cause(kind=kind, message=message)


def observed(pid: int, exit_code: int, signal: int, *, known: bool, out_of_memory: bool = False) -> Cause:
    """A cause read from a process's end. ``known`` is False when its parent could not tell the status."""
    if not known:
        message = f"process {pid} ended; its exit status is not known because its parent had died"
        return Cause(kind=Kind.EXITED, exit_code=-1, pid=pid, message=message)
    if out_of_memory:
        message = f"process {pid} was killed by the kernel because memory ran out"
        return Cause(kind=Kind.OUT_OF_MEMORY, signal=signal, pid=pid, message=message)
    if signal:
        message = f"process {pid} was killed by {_signal_name(signal)}"
        return Cause(kind=Kind.SIGNALED, signal=signal, pid=pid, message=message)
    message = f"process {pid} exited with code {exit_code}"
    return Cause(kind=Kind.EXITED, exit_code=exit_code, pid=pid, message=message)


def resolve(intended: Cause | None, seen: Cause) -> Cause:
    """The cause to report: the intended one, unless the process crashed before it could take effect."""
    if intended is None:
        return seen
    crashed = seen.kind == Kind.OUT_OF_MEMORY or (
        seen.kind == Kind.SIGNALED and seen.signal not in (signals.SIGKILL, signals.SIGTERM)
    )
    if crashed:
        return seen
    result = Cause()
    result.CopyFrom(seen)
    result.kind, result.message, result.error = intended.kind, intended.message, intended.error
    return result


def _signal_name(number: int) -> str:
    try:
        name = signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} ({signals.strsignal(number)})"
