"""``aktis stop``: end what ``aktis start`` started, and nothing else."""

import os
import select
import signal
from typing import Final

import click

from aktis._common.paths import current_cluster_file
from aktis._common.sessions import CurrentCluster, current_cluster
from aktis.cli.output import fail, json_option, print_json

_KILL_TIMEOUT_S: Final = 5.0


@click.command("stop")
@click.option("--timeout", "timeout_s", type=float, default=15.0, show_default=True, help="Seconds to wait.")
@click.option("--force", is_flag=True, help="Kill the cluster when it does not stop in time.")
@json_option
def command(timeout_s: float, force: bool, as_json: bool) -> None:
    """Stop the cluster that `aktis start` started.

    The process is found by the pid and start time that its own record names, never by a process's name.
    """
    cluster = current_cluster()
    if cluster is None:
        current_cluster_file().unlink(missing_ok=True)  # its cluster was killed
        if as_json:
            print_json({"stopped": False, "reason": "no cluster is running"})
        else:
            click.echo("No cluster is running.")
        return
    if not _stop(cluster, timeout_s, force=force):
        fail(
            f"the cluster in {cluster.session_dir} (supervisor {cluster.supervisor_pid}) does not stop "
            f"within {timeout_s:g} s: see its logs, or use --force"
        )
    if as_json:
        print_json({"stopped": True, "session_dir": cluster.session_dir})
    else:
        click.echo(f"Stopped the cluster in {cluster.session_dir}.")


def _stop(cluster: CurrentCluster, timeout_s: float, *, force: bool) -> bool:
    """Signal the supervisor and wait for its end; return whether it came."""
    try:
        fd = os.pidfd_open(cluster.supervisor_pid)
    except ProcessLookupError:
        return True
    try:
        # The descriptor holds the process fast; if the record still matches, it is the right one.
        if not cluster.is_alive():
            return True
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if _ended(fd, timeout_s):
            return True
        if not force:
            return False
        signal.pidfd_send_signal(fd, signal.SIGTERM)  # the second request kills its daemons and cleans up
        if not _ended(fd, _KILL_TIMEOUT_S):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        return _ended(fd, _KILL_TIMEOUT_S)
    finally:
        os.close(fd)


def _ended(fd: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))
