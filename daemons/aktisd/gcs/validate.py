"""Checks of what peers sent, shared by the managers; a failure is an INVALID_ARGUMENT."""

from collections.abc import Mapping

from aktis._common.resources import ResourceSet
from aktis._proto import common_pb2

from aktisd.gcs.errors import invalid


def check_id(raw: bytes, length_bytes: int, what: str) -> bytes:
    """Return ``raw`` if it is a non-zero id of that length."""
    if len(raw) != length_bytes:
        raise invalid(f"{what} must have {length_bytes} bytes, got {len(raw)}")
    if not any(raw):
        raise invalid(f"{what} must not be zero")
    return raw


def check_text(text: str, limit_characters: int, what: str) -> str:
    """Return ``text`` if it is short enough and has no NUL, which separates parts of storage keys."""
    if len(text) > limit_characters:
        raise invalid(f"{what} must have at most {limit_characters} characters, got {len(text)}")
    if "\0" in text:
        raise invalid(f"{what} must not contain a NUL character")
    return text


def check_text_map(entries: Mapping[str, str], limit_bytes: int, what: str) -> None:
    """Bound the size of a map of strings (labels, metadata)."""
    size_bytes = sum(len(key) + len(value) for key, value in entries.items())
    if size_bytes > limit_bytes:
        raise invalid(f"{what} must have at most {limit_bytes} characters in all, got {size_bytes}")


def check_resources(message: common_pb2.Resources, what: str) -> ResourceSet:
    """Return the resources if every name and amount is valid."""
    try:
        return ResourceSet.from_proto(message)
    except (ValueError, TypeError) as error:
        raise invalid(f"{what}: {error}") from None
