"""Every bound of the GCS in one place; `aktisd.gcs.service` fills some from the configuration."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes, counts and times; each queue or table of the GCS names the one that bounds it."""

    heartbeat_period_ms: int = 1_000
    suspect_after_ms: int = 5_000
    dead_after_ms: int = 15_000
    job_grace_ms: int = 10_000
    """How long a job may go on after its driver was not among the live ones of its re-registered node."""

    dead_nodes: int = 1_000
    finished_jobs: int = 1_000
    dead_actors: int = 10_000
    dead_processes: int = 10_000
    """How many of those that ended are remembered, the oldest are forgotten."""

    placement_groups: int = 100_000
    groups_per_request: int = 1_000
    bundles_per_group: int = 10_000
    removed_groups: int = 1_000
    """How many of those that were removed are remembered, the oldest are forgotten."""

    actors: int = 200_000
    actors_per_request: int = 20_000
    actor_opaque_bytes: int = 16 * MIB
    """Creation task and handle of one actor together."""
    name_characters: int = 512
    labels: int = 128
    metadata_bytes: int = 64 * KIB
    quick_death_ms: int = 5_000
    """An actor that lived for less than this restarts with a growing delay from its second death in a row."""
    restart_backoff_ms: int = 100
    restart_backoff_max_ms: int = 10_000

    kv_key_bytes: int = KIB
    kv_value_bytes: int = 64 * MIB
    kv_total_bytes: int = 4096 * MIB
    kv_cache_bytes: int = 64 * MIB
    kv_list: int = 10_000

    package_bytes: int = 2048 * MIB
    package_grace_ms: int = 60_000
    """What nobody needs is kept up to this size, and for so long in any case; see `aktisd.gcs.packages`."""

    channel_items: int = 8_192
    channel_bytes: int = 16 * MIB

    task_event_job_bytes: int = 32 * MIB
    task_event_jobs: int = 100
    task_event_list: int = 100_000
    task_event_list_bytes: int = 32 * MIB

    session_items: int = 50_000
    session_bytes: int = 256 * MIB
    batch_items: int = 1_000
    batch_bytes: int = 4 * MIB
    """A node's outgoing queue, and what one message of its stream carries at most."""
    unwritten_bytes: int = 256 * MIB
    """Writes that storage has not acknowledged; beyond it requests are refused."""
