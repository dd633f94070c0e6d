"""Where tasks say how far they are, and wait for one another."""

import asyncio

import aktis


@aktis.remote(num_cpus=0)
class Board:
    """What tasks have said. An actor that occupies no CPU; who waits here for a word lends his own out."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.changed = asyncio.Condition()

    async def say(self, word: str) -> None:
        """Write a word down."""
        async with self.changed:
            self.said.append(word)
            self.changed.notify_all()

    async def hear(self, word: str) -> None:
        """Return when the word has been said."""
        async with self.changed:
            await self.changed.wait_for(lambda: word in self.said)

    async def all(self) -> list[str]:
        """What has been said so far, in order."""
        return self.said
