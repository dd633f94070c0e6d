"""Names that libraries import on their way to tasks and actors: there is no data library here.

Only those names exist, so that ``from ray.data import ...`` fails early for programs that need the rest.
"""

from typing import Any


class Dataset:
    """For annotations and ``isinstance``: there are no instances."""


def from_pandas_refs(*_: Any, **__: Any) -> Dataset:
    """Refuse.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "ray.data is not part of Aktis, which has tasks, actors and objects: convert the data in another way"
    )


__all__ = ["Dataset", "from_pandas_refs"]
