"""Counters, gauges and histograms of the program's own, for Prometheus.

They appear on ``/metrics`` of the node's raylet within about a second, as ``aktis_user_<name>`` with the tags
and the ``job_id`` as labels. What processes of a job count is added up; of a gauge, the value that was set
last is shown. Characters that Prometheus does not know in names become underscores.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from aktis._runtime import user_metrics
from aktis._runtime.user_metrics import Family, Kind

__all__ = ["Counter", "Gauge", "Histogram", "Metric"]

DEFAULT_BOUNDARIES: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0),
)
"""For durations in seconds, from a call within a node to a long task."""

# What the raylet takes.
_NAME_LIMIT: Final = 200
_TEXT_LIMIT: Final = 1_024
_TAGS_LIMIT: Final = 16
_BOUNDARIES_LIMIT: Final = 256


class Metric:
    """What the kinds of metrics have in common. Any thread; pickles by its description."""

    _kind = Kind.KIND_UNSPECIFIED

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        """Describe the metric; several objects of one name measure the same.

        Args:
            name: Its name.
            description: What it measures; shown as its help.
            tag_keys: The names of its tags.

        Raises:
            TypeError, ValueError: an argument is not valid.
        """
        if not _text("name", name) or len(name) > _NAME_LIMIT:
            raise ValueError(f"the name of a metric must have 1 to {_NAME_LIMIT} characters, got {name!r}")
        if len(_text("description", description)) > _TEXT_LIMIT:
            raise ValueError(f"the description of metric {name} is longer than {_TEXT_LIMIT} characters")
        self._defaults: dict[str, str] = {}
        self._family = Family(name, self._kind, description, _checked_keys(tag_keys))

    @property
    def info(self) -> dict[str, Any]:
        """``name``, ``description``, ``tag_keys`` and ``default_tags``."""
        family = self._family
        return {
            "name": family.name,
            "description": family.description,
            "tag_keys": family.tag_keys,
            "default_tags": dict(self._defaults),
        }

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Self:
        """Set the values of tags that calls do not name; returns the metric.

        Raises:
            TypeError: a value is not a str.
            ValueError: the metric has no such tag.
        """
        self._check(default_tags)
        self._defaults = dict(default_tags)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        family = self._family
        return (_rebuild, (type(self), family.name, family.description, family.tag_keys, self._defaults))

    def _check(self, tags: Mapping[str, str]) -> None:
        keys = self._family.tag_keys
        for key, value in tags.items():
            if key not in keys:
                raise ValueError(f"metric {self._family.name} has no tag {key!r}; it has {list(keys)}")
            if len(_text(f"tag {key}", value)) > _TEXT_LIMIT:
                raise ValueError(f"tag {key} is longer than {_TEXT_LIMIT} characters: {value[:80]!r}...")

    def _tags(self, tags: Mapping[str, str] | None) -> tuple[str, ...]:
        """The values of the tags of one measurement, in order."""
        keys = self._family.tag_keys
        if not keys and not tags:
            return ()
        if tags:
            self._check(tags)
        merged = {**self._defaults, **(tags or {})}
        if len(merged) < len(keys):
            missing = ", ".join(key for key in keys if key not in merged)
            raise ValueError(f"metric {self._family.name} needs a value for the tags {missing}")
        return tuple(merged[key] for key in keys)


class Counter(Metric):
    """A number that only grows.

    Example:
        >>> requests = Counter("requests", "Requests served.", tag_keys=("route",))
        >>> requests.inc(tags={"route": "/"})
        >>> requests.set_default_tags({"route": "/"}).inc(2)
    """

    _kind = Kind.COUNTER

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Add to it.

        Raises:
            TypeError: ``value`` is not a number, or a tag not a str.
            ValueError: ``value`` is not positive, or a tag is unknown or missing.
        """
        if not _number(value) > 0:
            raise ValueError(f"a counter is increased by more than 0, got {value}")
        user_metrics.recorder.add(self._family, self._tags(tags), value)
        user_metrics.announce()


class Gauge(Metric):
    """A number that goes up and down.

    Example:
        >>> Gauge("queue_length", "Items that wait.").set(3)
    """

    _kind = Kind.GAUGE

    def set(self, value: float | None, tags: Mapping[str, str] | None = None) -> None:
        """Set it; None leaves it as it is.

        Raises:
            TypeError: ``value`` is not a number, or a tag not a str.
            ValueError: a tag is unknown or missing.
        """
        if value is None:
            return
        user_metrics.recorder.set(self._family, self._tags(tags), _number(value))
        user_metrics.announce()


class Histogram(Metric):
    """How often values fall into which range.

    Example:
        >>> latency = Histogram("latency_seconds", "From request to answer.", boundaries=[0.1, 1.0, 10.0])
        >>> latency.observe(0.25)
    """

    _kind = Kind.HISTOGRAM

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        """As `Metric`.

        Args:
            name: Its name.
            description: What it measures.
            boundaries: Upper bounds of the ranges, positive and ascending; default: for durations in
                seconds, from a millisecond to half an hour.
            tag_keys: The names of its tags.
        """
        super().__init__(name, description, tag_keys)
        bounds = tuple(
            float(_number(bound)) for bound in (DEFAULT_BOUNDARIES if boundaries is None else boundaries)
        )
        if len(bounds) > _BOUNDARIES_LIMIT:
            raise ValueError(f"a histogram has at most {_BOUNDARIES_LIMIT} boundaries, got {len(bounds)}")
        if (
            not bounds
            or bounds[0] <= 0
            or list(bounds) != sorted(set(bounds))
            or not math.isfinite(bounds[-1])
        ):
            raise ValueError(f"boundaries must be positive, finite and ascending, got {boundaries}")
        base = self._family
        self._family = Family(base.name, base.kind, base.description, base.tag_keys, bounds)

    @property
    def info(self) -> dict[str, Any]:
        """As of every metric, and ``boundaries``."""
        return {**super().info, "boundaries": list(self._family.boundaries)}

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Count a value.

        Raises:
            TypeError: ``value`` is not a number, or a tag not a str.
            ValueError: ``value`` is not a number (NaN), or a tag is unknown or missing.
        """
        if math.isnan(_number(value)):
            raise ValueError("a histogram cannot count NaN")
        user_metrics.recorder.observe(self._family, self._tags(tags), value)
        user_metrics.announce()

    def __reduce__(self) -> tuple[Any, ...]:
        family = self._family
        given = (family.name, family.description, family.boundaries, family.tag_keys)
        return (_rebuild, (type(self), *given, self._defaults))


def _rebuild(cls: type[Metric], *given: Any) -> Metric:
    *arguments, defaults = given
    return cls(*arguments).set_default_tags(defaults)


def _text(what: str, value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, got {type(value).__name__} {value!r}")
    if not value.isascii():
        value.encode()  # what cannot be sent is refused here, where it comes from
    return value


def _number(value: float) -> float:
    if not isinstance(value, int | float):
        raise TypeError(
            f"the value of a metric must be an int or a float, got {type(value).__name__} {value!r}"
        )
    return value


def _checked_keys(tag_keys: tuple[str, ...] | None) -> tuple[str, ...]:
    keys = () if tag_keys is None else tag_keys
    if not isinstance(keys, tuple):
        raise TypeError(f"tag_keys must be a tuple, got {type(keys).__name__} {keys!r}")
    for key in keys:
        if not _text("a tag key", key) or len(key) > _NAME_LIMIT:
            raise ValueError(f"a tag key must have 1 to {_NAME_LIMIT} characters, got {key!r}")
    if len({re.sub(r"\W", "_", key, flags=re.ASCII) for key in keys}) < len(keys) or len(keys) > _TAGS_LIMIT:
        raise ValueError(f"tag_keys must be at most {_TAGS_LIMIT} distinct names, got {keys}")
    return keys
