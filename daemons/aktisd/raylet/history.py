"""Bounded stories: what happened to one lease or actor, for debugging and error messages. Pure."""

from collections import OrderedDict
from collections.abc import Hashable


class History:
    """The last events of the last subjects. The oldest subject is forgotten first."""

    def __init__(self, max_subjects: int = 2000, max_events: int = 32) -> None:
        self._max_subjects = max_subjects
        self._max_events = max_events
        self._stories: OrderedDict[Hashable, list[tuple[float, str]]] = OrderedDict()

    def add(self, subject: Hashable, now: float, what: str) -> None:
        """Append one event to the subject's story; beyond the limit the middle is dropped."""
        story = self._stories.get(subject)
        if story is None:
            story = self._stories[subject] = []
            if len(self._stories) > self._max_subjects:
                self._stories.popitem(last=False)
        if len(story) >= self._max_events:
            del story[len(story) // 2]
        story.append((now, what))

    def story(self, subject: Hashable) -> list[tuple[float, str]]:
        """Times (of the caller's clock) and events, oldest first; empty when unknown or forgotten."""
        return list(self._stories.get(subject, ()))
