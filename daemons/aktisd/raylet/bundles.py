"""Bundles of placement groups that are reserved on this node. Pure; on the raylet's loop.

    (prepare) ──> PREPARED ──> COMMITTED ──> (return)
                      └─────────────────────────^

A bundle is an allocation of the node's ledger, and a ledger of its own for the tasks and actors that name the
group. The GCS decides; an *attempt* number tells its tries to reserve a bundle apart, so that an answer or an
order that comes late does no harm. All bundles of one message are reserved, or none.

A bundle that goes back frees at once what nobody uses. What is used stays taken, from the node's ledger now,
until the processes that use it are dead: the caller ends them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aktis._common.ids import short
from aktis._proto import common_pb2, gcs_pb2

from aktisd.raylet.messages import BundlesCommitted, BundlesWanted, Instruction, ReportBundles
from aktisd.raylet.resources import Allocation, Amounts, Ledger, bundle_ledger, describe_amount, positive

ANY = -1


@dataclass(slots=True, eq=False)
class Bundle:
    """One bundle of one group."""

    group: bytes
    index: int
    attempt: int
    reservation: Allocation
    committed: bool = False
    drawn_from: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        """What it holds, for those who draw from it; made for the first of them."""
        if self.drawn_from is None:
            self.drawn_from = bundle_ledger(self.reservation)
        return self.drawn_from

    @property
    def in_use(self) -> bool:
        """Whether anybody holds something of it."""
        return self.drawn_from is not None and self.drawn_from.in_use


class BundleTable:
    """See the module."""

    def __init__(self, ledger: Ledger, outbox: list[Instruction]) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._groups: dict[bytes, dict[int, Bundle]] = {}
        self._changes = 0
        self._changed: dict[bytes, int] = {}

    # ---- the GCS's orders ----

    def prepare(self, event: BundlesWanted, now: float) -> None:
        """Set resources aside for all of a group's bundles, and say whether that was possible."""
        for group in event.groups:
            self._answer(group, event.attempt, self._prepare(group, event.attempt, event.bundles))

    def _prepare(self, group: bytes, attempt: int, bundles: Mapping[int, Amounts]) -> str:
        """Do so for one group; return why not, empty when it is done."""
        known = self._groups.get(group, {})
        if all((b := known.get(index)) and b.attempt == attempt for index in bundles):
            return ""
        reserved: dict[int, Bundle] = {}
        for index, amounts in bundles.items():
            reservation = self._ledger.allocate(amounts) if index not in known else None
            if reservation is None:
                reason = self._refusal(index, amounts, known)
                for bundle in reserved.values():
                    self._ledger.release(bundle.reservation)
                return reason
            reserved[index] = Bundle(group, index, attempt, reservation)
        self._groups.setdefault(group, {}).update(reserved)
        return ""

    def commit(self, event: BundlesCommitted, now: float) -> None:
        """Let tasks and actors use what was prepared."""
        for group in event.groups:
            for bundle in self._groups.get(group, {}).values():
                if bundle.attempt == event.attempt:
                    bundle.committed = True
            self._has_changed(group)

    def give_back(self, group: bytes, attempt: int) -> list[Allocation]:
        """Release a group's bundles (of one attempt, 0: of all). Returns what is still used of them."""
        used: list[Allocation] = []
        bundles = self._groups.get(group, {})
        for bundle in list(bundles.values()):
            if attempt in (0, bundle.attempt):
                del bundles[bundle.index]
                self._ledger.release(bundle.reservation)
                if bundle.in_use:
                    for allocation in bundle.ledger.allocations():
                        self._ledger.adopt(allocation)
                        used.append(allocation)
        if not bundles and self._groups.pop(group, None) is not None:
            self._changed.pop(group, None)
        else:
            self._has_changed(group)
        return used

    # ---- looking ----

    def ledgers(self, group: bytes, index: int) -> list[Ledger]:
        """What those who name a bundle may draw from; every committed bundle for ``ANY``."""
        bundles = self._groups.get(group, {})
        chosen = bundles.values() if index == ANY else [bundles[index]] if index in bundles else []
        return [bundle.ledger for bundle in chosen if bundle.committed]

    def changed(self, group: bytes) -> int:
        """A number that is another one whenever the group's bundles here are others."""
        return self._changed.get(group, 0)

    def lacking_ever(self, group: bytes, index: int, amounts: Amounts) -> str:
        """Why none of the bundles here could ever serve the request; empty when one could or none is here."""
        bundles = self._groups.get(group, {})
        phrases = [
            f"bundle {number} {', '.join(lacking)}"
            for number, bundle in sorted(bundles.items())
            if index in (ANY, number) and (lacking := bundle.ledger.lacking_ever(amounts))
        ]
        fitting = sum(index in (ANY, number) for number in bundles) - len(phrases)
        return "" if fitting or not phrases else f"placement group {short(group)}: {'; '.join(phrases)}"

    def reports(self) -> list[gcs_pb2.BundleReport]:
        """The truth, for a GCS that we register with."""
        return [
            gcs_pb2.BundleReport(
                placement_group_id=bundle.group,
                index=bundle.index,
                attempt=bundle.attempt,
                committed=bundle.committed,
            )
            for bundle in self._all()
        ]

    def usage(self) -> list[gcs_pb2.BundleUsage]:
        """What is free in the bundles of which something is used."""
        return [
            gcs_pb2.BundleUsage(
                placement_group_id=bundle.group,
                index=bundle.index,
                available=common_pb2.Resources(amounts=positive(bundle.ledger.available)),
            )
            for bundle in self._all()
            if bundle.in_use
        ]

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def validate(self) -> None:
        """Check every bundle."""
        held = {id(allocation) for allocation in self._ledger.allocations()}
        for group, bundles in self._groups.items():
            assert bundles, group
            for index, bundle in bundles.items():
                assert (bundle.group, bundle.index) == (group, index)
                assert id(bundle.reservation) in held
                assert bundle.committed or not bundle.in_use
                bundle.ledger.validate()

    # ---- inside ----

    def _all(self) -> Iterable[Bundle]:
        return (bundle for bundles in self._groups.values() for bundle in bundles.values())

    def _answer(self, group: bytes, attempt: int, reason: str) -> None:
        report = self._outbox[-1] if self._outbox else None
        if not isinstance(report, ReportBundles):  # answers to orders that came together go together
            report = ReportBundles(gcs_pb2.BundleAnswers())
            self._outbox.append(report)
        answers = report.answers.answers
        if answers and answers[-1].attempt == attempt and answers[-1].reason == reason:
            answers[-1].placement_group_ids.append(group)
        else:
            answers.add(placement_group_ids=(group,), attempt=attempt, refused=bool(reason), reason=reason)

    def _refusal(self, index: int, amounts: Amounts, known: dict[int, Bundle]) -> str:
        if index in known:
            return f"bundle {index} is reserved here by an earlier attempt"
        lacking = sorted(self._ledger.lacking_now(amounts))
        parts = [f"{describe_amount(name, amounts[name])} {name}" for name in lacking]
        return f"bundle {index} needs {', '.join(parts)} that others hold or that are not on one device"

    def _has_changed(self, group: bytes) -> None:
        if group not in self._groups:
            return
        self._changes += 1
        self._changed[group] = self._changes
