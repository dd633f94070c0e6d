"""Types of what a proxy would hand out, for ``isinstance``: there are no instances."""


class ClientObjectRef:
    """No reference is one: see `aktis.ObjectRef`."""


class ClientActorHandle:
    """No handle is one: see `aktis.ActorHandle`."""


__all__ = ["ClientActorHandle", "ClientObjectRef"]
