"""Which runtime environments are in use, and which uploaded packages may go.

Clients say in the key-value store what they need, next to what they upload (`USES_NAMESPACE` of
`aktis._common.environments`): an environment is held by the jobs that have named it, and by the living actors
that run in it; a package by the environments that name it. A job whose actors outlive it counts as long as
one of them does. So nothing is kept here that would not be in storage.

An environment that nobody holds is forgotten at once: who wants it later describes it again. Packages that
nobody holds stay, because the same program often comes back, until all packages together take more than
`Limits.package_bytes`; then those go that were used longest ago. A package of which a client has just made
sure that it is there is not held yet: it has `Limits.package_grace_ms`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aktis._common.environments import KV_NAMESPACE, PACKAGES_NAMESPACE, USES_NAMESPACE, Use, read_use
from aktis._proto import gcs_pb2

from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import Effects
from aktisd.gcs.kv import KvManager
from aktisd.gcs.limits import Limits

TRIM_PERIOD_MS = 60_000
LISTED = 1_000
"""Environments that are described to people."""


@dataclass(slots=True)
class _Package:
    used_at_ms: float
    sizes: dict[bytes, int] = field(default_factory=dict)
    """Bytes of each of its keys."""


@dataclass(slots=True)
class _Environment:
    jobs: set[bytes] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)


class PackageKeeper:
    """Pure state machine, driven by the event loop's thread only."""

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        kv: KvManager,
        is_job_alive: Callable[[bytes], bool],
        environments_of_actors: Callable[[], Iterable[str]],
    ) -> None:
        """Watch the namespaces of ``kv``, with what is in them already."""
        self._clock = clock
        self._limits = limits
        self._kv = kv
        self._is_job_alive = is_job_alive
        self._environments_of_actors = environments_of_actors
        self._packages: dict[str, _Package] = {}
        self._environments: dict[str, _Environment] = {}
        self._next_trim_ms = clock.monotonic_ms() + TRIM_PERIOD_MS
        self.package_bytes = 0
        self.removed = 0
        kv.watch(PACKAGES_NAMESPACE, self._package_changed)
        kv.watch(USES_NAMESPACE, self._use_changed)

    def tick(self, out: Effects) -> None:
        """Look for what nobody holds any more, now and then."""
        if self._clock.monotonic_ms() >= self._next_trim_ms:
            self.trim(out)

    def stored(self, namespace: str, out: Effects) -> None:
        """A value was put: packages may take too much now."""
        if namespace == PACKAGES_NAMESPACE and self.package_bytes > self._limits.package_bytes:
            self.trim(out)

    def trim(self, out: Effects) -> None:
        """Forget what nobody holds, packages only as far as they take too much."""
        now_ms = self._clock.monotonic_ms()
        self._next_trim_ms = now_ms + TRIM_PERIOD_MS
        of_actors = set(self._environments_of_actors()) if self._environments else set()
        for name in [name for name in self._environments if not self._is_held(name, of_actors)]:
            self._forget_environment(name, out)
        held = set().union(*(environment.packages for environment in self._environments.values()))
        idle = [digest for digest in self._packages if digest not in held]
        for digest in sorted(idle, key=lambda digest: self._packages[digest].used_at_ms):
            young = self._packages[digest].used_at_ms + self._limits.package_grace_ms > now_ms
            if self.package_bytes <= self._limits.package_bytes or young:
                return
            self._remove_package(digest, out)

    def describe(self) -> list[gcs_pb2.EnvironmentUse]:
        """Return the environments that are in use, for people."""
        return [
            gcs_pb2.EnvironmentUse(
                hash=name, job_ids=sorted(environment.jobs), packages=sorted(environment.packages)
            )
            for name, environment in sorted(self._environments.items())[:LISTED]
        ]

    def __len__(self) -> int:
        return len(self._packages)

    # ---- steps ----

    def _is_held(self, name: str, of_actors: set[str]) -> bool:
        return name in of_actors or any(self._is_job_alive(job) for job in self._environments[name].jobs)

    def _forget_environment(self, name: str, out: Effects) -> None:
        environment = self._environments[name]
        for job_id in list(environment.jobs):
            self._delete(USES_NAMESPACE, Use(name, job_id=job_id).key, out)
        for digest in list(environment.packages):
            self._delete(USES_NAMESPACE, Use(name, package=digest).key, out)
        self._delete(KV_NAMESPACE, name.encode(), out)
        out.note("environment_forgotten", environment=name)

    def _remove_package(self, digest: str, out: Effects) -> None:
        size_bytes = sum(self._packages[digest].sizes.values())
        for key in list(self._packages[digest].sizes):
            self._delete(PACKAGES_NAMESPACE, key, out)
        self.removed += 1
        out.note("package_removed", package=digest, bytes=size_bytes)

    def _delete(self, namespace: str, key: bytes, out: Effects) -> None:
        self._kv.delete(gcs_pb2.KvDeleteRequest(namespace=namespace, key=key), out)

    # ---- what happens in the key-value store ----

    def _package_changed(self, key: bytes, size_bytes: int | None) -> None:
        digest = key.partition(b"/")[0].decode("utf-8", "replace")
        package = self._packages.setdefault(digest, _Package(0.0))
        package.used_at_ms = self._clock.monotonic_ms()
        self.package_bytes -= package.sizes.pop(key, 0)
        if size_bytes is not None:
            package.sizes[key] = size_bytes
            self.package_bytes += size_bytes
        if not package.sizes:
            del self._packages[digest]

    def _use_changed(self, key: bytes, size_bytes: int | None) -> None:
        use = read_use(key)
        if use is None:
            return
        environment = self._environments.setdefault(use.environment, _Environment())
        if size_bytes is None:
            environment.jobs.discard(use.job_id)
            environment.packages.discard(use.package)
        elif use.package:
            environment.packages.add(use.package)
        else:
            environment.jobs.add(use.job_id)
        if not environment.jobs and not environment.packages:
            del self._environments[use.environment]
