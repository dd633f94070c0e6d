"""What goes wrong in a group."""


class CollectiveError(RuntimeError):
    """The group cannot go on: a member died, left it or was interrupted; the message says which.

    Every later call fails with the same reason. Call `destroy_collective_group` in the members that are left
    and `init_collective_group` with those that shall be in the new group.
    """


class CollectiveTimeoutError(CollectiveError, TimeoutError):
    """A member did not call the same operation within the group's timeout; the group cannot go on."""
