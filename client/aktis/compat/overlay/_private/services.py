"""Facts about this host."""

from aktis.util import get_node_ip_address

__all__ = ["get_node_ip_address"]
