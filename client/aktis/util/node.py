"""Facts about the node that this process runs on."""

import os
import socket
from typing import Final

import aktis
from aktis._runtime import current

INSTANCE_VARIABLE: Final = "AKTIS_NODE_INSTANCE_ID"


def get_node_ip_address(address: str | None = None) -> str:
    """Return the IP address by which other nodes reach this one.

    Args:
        address: ``host:port`` that must be reached; None: as the cluster sees this node, or, without a
            session, the address of the interface that leads outside.

    Example:
        >>> get_node_ip_address("127.0.0.1:80")
        '127.0.0.1'
    """
    if address is None and aktis.is_initialized():
        return current.require().node.node_ip
    host, _, port = (address or "192.0.2.1:53").rpartition(":")  # nothing is sent to it
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
        except OSError:  # no route: nobody else can reach us either
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def get_node_instance_id() -> str:
    """Return what the operator calls this machine (AKTIS_NODE_INSTANCE_ID), empty when it has no such name.

    Example:
        >>> get_node_instance_id()
        ''
    """
    return os.environ.get(INSTANCE_VARIABLE, "")
