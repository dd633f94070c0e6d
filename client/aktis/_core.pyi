"""Types of the native module; cpp/bindings is the implementation."""

__version__: str
PROTOCOL_VERSION: int
