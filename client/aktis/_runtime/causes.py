"""Causes of death in words: what the exceptions of crashed workers and dead actors say."""

import signal

from aktis._common.proto_values import enum_name
from aktis._proto import common_pb2

_KINDS = common_pb2.DeathCause

_HINTS = {
    _KINDS.SIGNALED: "Native code crashed, or somebody killed it; its log has the fault handler's stack.",
    _KINDS.OUT_OF_MEMORY: "Ask for more with memory=, or run fewer such tasks at once.",
    _KINDS.LAUNCH_FAILED: "See the log of the worker in the session's log directory.",
}


def describe_death(cause: common_pb2.DeathCause | None) -> str:
    """Return one paragraph on why a process died: what, where, its last lines on stderr, what to do next."""
    if cause is None or (cause.kind == _KINDS.KIND_UNSPECIFIED and not cause.message):
        return "the cause of its death is not known"
    parts = [_sentence(cause)]
    if cause.pid:
        parts.append(f"(process {cause.pid})")
    text = " ".join(parts)
    if hint := _HINTS.get(cause.kind):
        text += f". {hint}"
    if cause.stderr_tail.strip():
        text += f"\nIts last lines on stderr:\n{_indented(cause.stderr_tail)}"
    return text


def setup_failure(reason: str) -> str:
    """Return what the exception of a runtime environment that could not be set up says."""
    return f"the runtime environment could not be set up: {reason}"


def _sentence(cause: common_pb2.DeathCause) -> str:
    if cause.kind == _KINDS.EXITED:
        how = f"it exited with code {cause.exit_code}"
    elif cause.kind == _KINDS.SIGNALED:
        how = f"it was ended by signal {_signal_name(cause.signal)}"
    elif cause.kind == _KINDS.OUT_OF_MEMORY:
        how = "it was ended because memory ran out"
    else:
        return cause.message or enum_name(_KINDS.Kind.DESCRIPTOR, cause.kind).replace("_", " ").lower()
    said = cause.message
    return f"{how}: {said}" if said and not said.endswith(how.removeprefix("it ")) else how


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())
