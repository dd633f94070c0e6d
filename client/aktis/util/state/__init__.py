"""What the cluster's directory knows: actors, nodes, jobs, placement groups; listed, filtered, counted."""

from aktis.util.state.api import (
    get_actor,
    get_job,
    get_node,
    get_placement_group,
    list_actors,
    list_jobs,
    list_nodes,
    list_placement_groups,
    summarize_actors,
)
from aktis.util.state.records import ActorState, JobState, NodeState, PlacementGroupState

__all__ = [
    "ActorState",
    "JobState",
    "NodeState",
    "PlacementGroupState",
    "get_actor",
    "get_job",
    "get_node",
    "get_placement_group",
    "list_actors",
    "list_jobs",
    "list_nodes",
    "list_placement_groups",
    "summarize_actors",
]
