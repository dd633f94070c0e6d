"""Members of a group exchange PyTorch's tensors and train a model together, beside one process alone."""

import os

import ray
import torch
from ray.util import collective
from ray.util.collective.types import ReduceOp

WORLD = 3
TYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.complex64,
)


def values(rank: int, dtype: torch.dtype) -> torch.Tensor:
    """Small whole numbers, whose sums are exact in every type."""
    return (torch.arange(12).reshape(3, 4) + rank).to(dtype)


@ray.remote(num_cpus=0)
class Member:
    def __init__(self, rank: int) -> None:
        torch.set_num_threads(1)
        self.rank = rank

    def pid(self) -> int:
        return os.getpid()

    def reduced(self, dtype: torch.dtype) -> torch.Tensor:
        tensor = values(self.rank, dtype)
        collective.allreduce(tensor)
        return tensor

    def largest(self) -> torch.Tensor:
        """In a part of a tensor that is not contiguous; the rest of it stays."""
        whole = values(self.rank, torch.float32)
        collective.allreduce(whole.T[1:3], op=ReduceOp.MAX)
        return whole

    def told_by_the_last(self) -> torch.Tensor:
        tensor = values(self.rank, torch.bfloat16)
        collective.broadcast(tensor, src_rank=WORLD - 1)
        return tensor

    def from_the_left(self) -> torch.Tensor:
        """Around a ring."""
        mine, got = values(self.rank, torch.float64), torch.zeros(3, 4, dtype=torch.float64)
        left, right = (self.rank - 1) % WORLD, (self.rank + 1) % WORLD
        if self.rank == 0:
            collective.send(mine, right)
            collective.recv(got, left)
        else:
            collective.recv(got, left)
            collective.send(mine, right)
        return got

    def gathered(self) -> list[torch.Tensor]:
        everybodys = [torch.zeros(3, 4) for _ in range(WORLD)]
        collective.allgather(everybodys, values(self.rank, torch.float32))
        return everybodys

    def train(self, steps: int) -> list[torch.Tensor]:
        """Each with a third of the samples, and the mean of all gradients."""
        samples, targets = (part.chunk(WORLD)[self.rank] for part in data())

        def average(model: torch.nn.Module) -> None:
            for parameter in model.parameters():
                collective.allreduce(parameter.grad)
                parameter.grad /= WORLD

        return fit(samples, targets, steps, average)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    samples = torch.randn(30 * WORLD, 5, dtype=torch.float64, generator=source)
    return samples, samples.sum(dim=1, keepdim=True).sin()


def fit(samples, targets, steps, after_backward=lambda model: None) -> list[torch.Tensor]:
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(samples), targets).backward()
        after_backward(model)
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def check(name: str, results: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype, name
        assert torch.equal(result, wanted), (name, result, wanted)


def main() -> None:
    ray.init(num_cpus=2)
    members = [Member.remote(rank) for rank in range(WORLD)]
    collective.create_collective_group(members, WORLD, list(range(WORLD)), backend="gloo")

    def everywhere(method: str, *arguments: object) -> list:
        return ray.get([getattr(member, method).remote(*arguments) for member in members], timeout=100)

    for dtype in TYPES:
        total = sum(values(rank, dtype) for rank in range(WORLD))
        check(f"sum of {dtype}", everywhere("reduced", dtype), [total] * WORLD)
    expected = [values(rank, torch.float32) for rank in range(WORLD)]
    for tensor in expected:
        tensor[:, 1:3] = values(WORLD - 1, torch.float32)[:, 1:3]
    check("maximum", everywhere("largest"), expected)
    check("broadcast", everywhere("told_by_the_last"), [values(WORLD - 1, torch.bfloat16)] * WORLD)
    ring = [values((rank - 1) % WORLD, torch.float64) for rank in range(WORLD)]
    check("ring", everywhere("from_the_left"), ring)
    for gathered in everywhere("gathered"):
        check("gathered", gathered, [values(rank, torch.float32) for rank in range(WORLD)])

    trained, alone = everywhere("train", 40), fit(*data(), 40)
    for parameters in trained[1:]:
        check("what members learned", parameters, trained[0])
    for learned, wanted in zip(trained[0], alone, strict=True):
        torch.testing.assert_close(learned, wanted)
    pids = set(everywhere("pid"))
    assert len(pids) == WORLD, "members share a process"
    assert os.getpid() not in pids
    print("same:", len(TYPES), "types, and a model of", sum(p.numel() for p in alone), "numbers")


if __name__ == "__main__":
    main()
