"""The books of the node's cache of packages and installed environments. Pure.

An entry is named by its content (a package's digest, a hash of the requirements), so that environments
share it and a second set-up finds it ready. Entries that no environment uses stay until their bytes are
needed for others; then those go first that were unused for longest.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from aktis._common.environments import Environment, Requirements

WORKING_DIR_VARIABLES: Final = (
    "AKTIS_RUNTIME_ENV_CREATE_WORKING_DIR",
    "RAY_RUNTIME_ENV_CREATE_WORKING_DIR",
)
"""In requirements, ``${...}`` of these is the unpacked working directory."""


def source_key(uri: str, *, is_module: bool) -> str:
    """Name the entry for the files behind a URI; a module keeps its top folder, a working directory not."""
    kind = "module" if is_module else "dir"
    return f"{kind}-{_digest(uri)}"


def install_key(environment: Environment) -> str:
    """Name the entry for installed requirements; empty when there are none."""
    wanted = environment.pip or environment.uv
    if wanted is None:
        return ""
    parts = ["pip" if environment.pip else "uv", *_parts(wanted)]
    if any(name in part for name in WORKING_DIR_VARIABLES for part in parts):
        parts.append(environment.working_dir)
    return f"venv-{_digest(chr(0).join(parts))}"


def keys_of(environment: Environment) -> list[str]:
    """Every entry that an environment needs."""
    keys = [source_key(environment.working_dir, is_module=False)] if environment.working_dir else []
    keys += [source_key(uri, is_module=True) for uri in environment.py_modules]
    return keys + [key for key in (install_key(environment),) if key]


def _parts(wanted: Requirements) -> list[str]:
    files = [text for pair in sorted(wanted.files.items()) for text in pair]
    return [*wanted.packages, "", *wanted.options, "", str(wanted.check), wanted.version, *files]


def _digest(text: str) -> str:
    # What a description may have in it as JSON is not always UTF-8.
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


@dataclass(slots=True)
class _Entry:
    size_bytes: int = 0
    users: set[str] = field(default_factory=set)


class CacheBooks:
    """See the module. Users are names of environments."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: dict[str, _Entry] = {}  # in the order of their last use
        self.total_bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def hold(self, user: str, keys: list[str]) -> None:
        """An environment is about to use entries, which may not be there yet."""
        for key in keys:
            self._entries.setdefault(key, _Entry()).users.add(user)

    def found(self, key: str, size_bytes: int) -> None:
        """An entry is there, and so large."""
        entry = self._entries.setdefault(key, _Entry())
        self.total_bytes += size_bytes - entry.size_bytes
        entry.size_bytes = size_bytes

    def release(self, user: str) -> None:
        """An environment uses nothing any more."""
        for key, entry in list(self._entries.items()):
            if user in entry.users:
                entry.users.remove(user)
                del self._entries[key]
                if entry.users or entry.size_bytes:
                    self._entries[key] = entry

    def evict(self) -> list[str]:
        """Choose what has to be removed so that the rest is within the limit; it is forgotten here."""
        chosen = []
        for key, entry in list(self._entries.items()):
            if self.total_bytes <= self._limit_bytes:
                break
            if not entry.users:
                del self._entries[key]
                self.total_bytes -= entry.size_bytes
                chosen.append(key)
        return chosen

    def validate(self) -> None:
        """Check the sum."""
        assert self.total_bytes == sum(entry.size_bytes for entry in self._entries.values())
        assert all(entry.users or entry.size_bytes for entry in self._entries.values())
