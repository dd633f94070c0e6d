"""Names around actors at the place where programs look for them."""

from aktis._runtime.actor_class import ActorClass
from aktis._runtime.actor_handle import ActorHandle, ActorMethod
from aktis._runtime.actor_shape import method
from aktis._worker.exit import exit_actor

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]
