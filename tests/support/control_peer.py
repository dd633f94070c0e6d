"""A blocking peer of the raylet's control socket: a scripted driver, worker or hostile process."""

import os
import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from aktis import _core
from aktis._proto import common_pb2, raylet_pb2


class ControlPeer:
    """One connection; messages are read in order, those not asked for yet are kept."""

    def __init__(
        self,
        address: str,
        token: str,
        role: int = _core.ROLE_DRIVER,
        worker_id: bytes | None = None,
        major: int = _core.PROTOCOL_MAJOR,
    ) -> None:
        self.worker_id = worker_id or os.urandom(16)
        self.job_id = b""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20.0)
        self.socket.connect(address.removeprefix("unix:"))
        self._decoder = _core.FrameDecoder(64 << 20)
        self._frames: list[tuple[int, bytes]] = []
        self._messages: list[raylet_pb2.RayletMessage] = []
        self._last_request = 0
        hello = _core.encode_hello(
            role=role, sender=self.worker_id, token=token, pid=os.getpid(), major=major
        )
        self.send_frame(_core.FRAME_HELLO, hello)
        kind, payload = self._frame(20.0)
        if kind == _core.FRAME_HELLO_REJECT:
            self.socket.close()
            raise PermissionError(_core.decode_reject(payload)[1])
        assert kind == _core.FRAME_HELLO_ACK

    def __enter__(self) -> "ControlPeer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def address(self) -> common_pb2.ProcessAddress:
        """This process's address; nobody listens there."""
        return common_pb2.ProcessAddress(worker_id=self.worker_id, address="unix:/nowhere", pid=os.getpid())

    def send_frame(self, kind: int, payload: bytes) -> None:
        """Send raw bytes in a frame."""
        self.socket.sendall(_core.encode_frame(kind, 0, 0, payload))

    def send(self, **body: Any) -> int:
        """Send a ClientMessage with one body and a request id, which is returned."""
        self._last_request += 1
        message = raylet_pb2.ClientMessage(request_id=self._last_request, **body)
        self.send_frame(_core.FRAME_CONTROL, message.SerializeToString())
        return self._last_request

    def receive_frame(self, kind: int, timeout_s: float = 20.0) -> bytes:
        """The payload of the next frame of a kind; those of other kinds are dropped."""
        while True:
            came, payload = self._frame(timeout_s)
            if came == kind:
                return payload

    def receive(self, body: str, timeout_s: float = 20.0) -> Any:
        """The next message of a kind; earlier ones of other kinds are kept."""
        deadline = time.monotonic() + timeout_s
        while True:
            for index, message in enumerate(self._messages):
                if message.WhichOneof("body") == body:
                    return getattr(self._messages.pop(index), body)
            self._messages.append(self._message(deadline - time.monotonic()))

    def receive_any(self) -> raylet_pb2.RayletMessage:
        """The next message, whatever it is; waits without limit, EOFError when the raylet is gone."""
        return self._messages.pop(0) if self._messages else self._message(None)

    def has(self, body: str, within_s: float) -> bool:
        """Whether a message of a kind comes within a time."""
        try:
            self._messages.insert(0, raylet_pb2.RayletMessage(**{body: self.receive(body, within_s)}))
        except TimeoutError:
            return False
        return True

    def wait_closed(self, timeout_s: float = 20.0) -> None:
        """Wait until the raylet closes the connection, then close this end."""
        try:
            while True:
                self._frame(timeout_s)
        except (EOFError, ConnectionError):
            self.close()

    def register_driver(self, **fields: Any) -> raylet_pb2.DriverRegistered:
        """Become a driver with a job of its own."""
        self.send(register_driver=raylet_pb2.RegisterDriver(address=self.address(), **fields))
        registered: raylet_pb2.DriverRegistered = self.receive("driver_registered")
        return registered

    def _message(self, timeout_s: float | None) -> raylet_pb2.RayletMessage:
        kind, payload = self._frame(timeout_s)
        assert kind == _core.FRAME_CONTROL, kind
        return raylet_pb2.RayletMessage.FromString(payload)

    def _frame(self, timeout_s: float | None) -> tuple[int, bytes]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._frames:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self.socket], [], [], left_s)[0]:
                raise TimeoutError("the raylet sent nothing in time")
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError("the raylet closed the connection")
            self._frames.extend((kind, payload) for kind, _, _, payload in self._decoder.feed(data))
        return self._frames.pop(0)


def raylet_address(session: Path) -> str:
    """The control socket of a session."""
    return f"unix:{session}/raylet.sock"
