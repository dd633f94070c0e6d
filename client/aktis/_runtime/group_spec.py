"""What users say of a placement group as the message for the GCS, and what it says of one as users see it."""

from collections.abc import Mapping, Sequence
from typing import Any

from aktis._common.labels import check_selector
from aktis._common.resources import ResourceSet
from aktis._proto import gcs_pb2
from aktis.util.placement_group import STRATEGIES, bundles_of

Spec = gcs_pb2.PlacementGroupSpec
Group = gcs_pb2.PlacementGroup


def spec_of(
    bundles: Sequence[Mapping[str, float]],
    strategy: str,
    name: str,
    lifetime: str | None,
    selectors: Sequence[Mapping[str, str]] | None,
) -> Spec:
    """Check the arguments of ``placement_group()`` and return what describes the group.

    Raises:
        ValueError, TypeError: the message names the argument.
    """
    example = 'for example [{"CPU": 1}, {"GPU": 1}]'
    if not isinstance(bundles, list | tuple):
        raise ValueError(f"bundles must be a list of dicts, {example}, got {bundles!r}")
    if not bundles:
        raise ValueError(f"bundles must not be empty: give a dict of resources per bundle, {example}")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime must be None or 'detached', got {lifetime!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__} {name!r}")
    _check_selectors(selectors, len(bundles))
    spec = Spec(name=name, strategy=Spec.Strategy.Value(strategy), detached=lifetime == "detached")
    for index, bundle in enumerate(bundles):
        message = spec.bundles.add(resources=_bundle_resources(index, bundle, example).to_proto())
        if selectors is not None:
            message.label_selector.conditions.update(selectors[index])
    return spec


def _check_selectors(selectors: Sequence[Mapping[str, str]] | None, bundles: int) -> None:
    if selectors is None:
        return
    if not isinstance(selectors, list | tuple) or len(selectors) != bundles:
        count = f"{len(selectors)} entries" if isinstance(selectors, list | tuple) else repr(selectors)
        raise ValueError(
            f"bundle_label_selector must be a list with a dict per bundle, got {count} for {bundles} bundles"
        )
    for index, selector in enumerate(selectors):
        if not isinstance(selector, Mapping):
            raise ValueError(
                f"bundle_label_selector[{index}] must be a dict of conditions by label, got {selector!r}"
            )
        check_selector(selector)


def _bundle_resources(index: int, bundle: object, example: str) -> ResourceSet:
    if not isinstance(bundle, Mapping):
        raise ValueError(f"bundle {index} must be a dict of amounts by resource, {example}, got {bundle!r}")
    try:
        resources = ResourceSet.of(bundle)
    except (TypeError, ValueError) as error:
        raise ValueError(f"bundle {index} is not valid: {error}") from None
    if not resources:
        raise ValueError(f"bundle {index} asks for nothing: {dict(bundle)!r}")
    gpus = bundle.get("GPU", 0)
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"bundle {index}: more than one GPU must be a whole number, got {gpus!r}")
    return resources


def describe(group: Group) -> dict[str, Any]:
    """Return what ``placement_group_table()`` says of a group."""
    spec = group.spec
    state = "PENDING" if group.state == Group.PREPARING else Group.State.Name(group.state)
    took_ms = max(0, group.created_time_unix_ms - group.start_time_unix_ms)
    return {
        "placement_group_id": spec.placement_group_id.hex(),
        "name": spec.name,
        "bundles": dict(enumerate(bundles_of(group))),
        "bundles_to_node_id": {index: place.node_id.hex() for index, place in enumerate(group.places)},
        "strategy": Spec.Strategy.Name(spec.strategy),
        "state": state,
        "stats": {
            "end_to_end_creation_latency_ms": float(took_ms),
            "scheduling_attempt": group.attempts,
            "scheduling_state": "INFEASIBLE" if group.infeasible else state,
        },
        "pending_reason": group.pending_reason,
    }
