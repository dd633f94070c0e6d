"""A program for unidist; its argument is the backend to run on."""

import sys

import unidist
from unidist.config import Backend, CpuCount

Backend.put(sys.argv[1])
CpuCount.put(2)
unidist.init()


@unidist.remote
def square(n):
    return n * n


@unidist.remote(num_returns=2)
def halves(values):
    middle = len(values) // 2
    return values[:middle], values[middle:]


@unidist.remote
class Account:
    def __init__(self, balance):
        self.balance = balance

    def add(self, amount):
        self.balance += amount
        return self.balance


refs = [square.remote(n) for n in range(8)]
ready, rest = unidist.wait(refs, num_returns=8)
print(len(ready), rest, unidist.get(refs))
print(unidist.get(halves.remote(unidist.put(list(range(6))))))
print(unidist.get(square.remote(square.remote(3))))
account = Account.remote(10)
other = Account.options(num_cpus=0.5).remote(1) if sys.argv[1] == "Ray" else Account.remote(1)
print(unidist.get([account.add.remote(n) for n in range(4)]), unidist.get(other.add.remote(1)))
print(unidist.is_object_ref(refs[0]), unidist.is_initialized())
try:
    unidist.get(square.remote("x"))
except TypeError:
    print("TypeError")
if sys.argv[1] == "Ray":
    print(unidist.num_cpus(), list(unidist.cluster_resources().values()), file=sys.stderr)
    unidist.shutdown()
