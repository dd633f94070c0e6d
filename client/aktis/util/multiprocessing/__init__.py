"""``multiprocessing.Pool`` over actors: the same calls, on all the nodes of a cluster."""

from multiprocessing import JoinableQueue, TimeoutError  # noqa: A004  named as in the standard library

from aktis.util.multiprocessing.pool import Pool
from aktis.util.multiprocessing.results import AsyncResult, IMapIterator

__all__ = ["AsyncResult", "IMapIterator", "JoinableQueue", "Pool", "TimeoutError"]
