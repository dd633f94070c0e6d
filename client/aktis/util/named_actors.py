"""The named actors that are alive."""

from typing import Any

from aktis._proto import gcs_pb2
from aktis._runtime import current


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the living actors of this program's namespace.

    Args:
        all_namespaces: Those of every namespace instead, each as ``{"name": ..., "namespace": ...}``.

    Example:
        >>> @aktis.remote
        ... class Clerk:
        ...     pass
        >>> clerk = Clerk.options(name="the clerk").remote()
        >>> list_named_actors()
        ['the clerk']
    """
    session = current.require()
    request = gcs_pb2.ListActorsRequest(namespace="" if all_namespaces else session.namespace)
    reply = session.control.gcs("ListActors", request, gcs_pb2.ListActorsReply)
    named = sorted((actor.spec.namespace, actor.spec.name) for actor in reply.actors if actor.spec.name)
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in named]
    return [name for _, name in named]
