"""Errors that end a daemon's start. Each is one line for an operator: what, where, what to do next."""


class StartError(Exception):
    """A daemon cannot start for a reason outside of its code: a directory, a port, its configuration.

    The skeleton of a daemon prints the message without a traceback and exits with status 2, which tells
    the supervisor and systemd that starting it again would not help.
    """
