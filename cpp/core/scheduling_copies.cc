// Scheduling of second runs (core/speculation.h). A copy is a record of its own, with the id of its task. It
// is pushed to a lease that has nothing to do and is never queued, so that on both leases the run that counts
// is the first in flight.
#include <algorithm>
#include <limits>
#include <utility>

#include "core/scheduling.h"

namespace aktis::core {
namespace {

// Whoever has first attempts to run goes before a second one.
constexpr std::int32_t kLast = std::numeric_limits<std::int32_t>::min() / 2;

}  // namespace

// The tick's part: only for classes that have such tasks.
void Scheduling::speculate(std::uint64_t key, Class& cls, TimePoint now) {
  auto stragglers = stragglers_of(cls, now);
  while (!stragglers.empty()) {
    Lease* lease = idle_lease(cls);
    if (lease == nullptr) break;
    TaskRecord& copy = outlet_.copy(*stragglers.front());
    copy.change(TaskState::kQueued);
    give(*lease, copy, now);
    stragglers.erase(stragglers.begin());
  }
  cls.stragglers = static_cast<std::uint32_t>(stragglers.size());
  ask_for_leases(key, cls);
}

// Those that may run twice from now on, the longest first. None while work of the class waits.
std::vector<TaskRecord*> Scheduling::stragglers_of(const Class& cls, TimePoint now) const {
  std::vector<Lease*> late;
  if (backlog(cls) > 0) return {};
  std::size_t running = 0, copies = 0;
  double quantile = 0;
  std::optional<Nanoseconds> limit;
  for (Lease* lease : cls.leases) {
    if (lease->in_flight.empty()) continue;
    const TaskRecord& task = *lease->in_flight.front();
    ++(task.is_copy ? copies : running);
    const double asked = task.shape->speculative;
    if (asked == 0 || task.is_copy || task.speculated || task.cancel_requested) continue;
    const Nanoseconds elapsed = now - lease->last_progress;
    if (elapsed < cls.speculation->config().at_least) continue;
    if (asked != quantile) limit = cls.speculation->limit(quantile = asked);
    if (limit && elapsed > *limit) late.push_back(lease);
  }
  std::sort(late.begin(), late.end(),
            [](const Lease* a, const Lease* b) { return a->last_progress < b->last_progress; });
  late.resize(std::min(late.size(), cls.speculation->allowed(running, copies)));
  std::vector<TaskRecord*> tasks;
  for (const Lease* lease : late) tasks.push_back(lease->in_flight.front());
  return tasks;
}

Lease* Scheduling::idle_lease(const Class& cls) {
  for (Lease* lease : cls.leases) {
    if (lease->in_flight.empty() && !lease->blocked && !lease->closing && !is_spent(cls, *lease))
      return lease;
  }
  return nullptr;
}

// What to ask for when nothing of the class waits: room for second runs that have none.
LeaseWish Scheduling::wish_for_copies(const Class& cls) {
  if (cls.stragglers == 0 || cls.leases.empty() || idle_lease(cls) != nullptr) return {};
  return {cls.stragglers, cls.stragglers, kLast};
}

// Its first run may still occupy the worker, which tells them apart by nothing but their order.
bool Scheduling::runs_already(const Lease& lease, const TaskRecord& task) {
  return std::any_of(lease.in_flight.begin(), lease.in_flight.end(),
                     [&](const TaskRecord* other) { return other->id == task.id; });
}

void Scheduling::put_in_place(TaskRecord& task, LeaseId id, const TaskRecord& instead_of) {
  Lease* lease = find(id);
  if (lease == nullptr) return;
  const auto place = std::find(lease->in_flight.begin(), lease->in_flight.end(), &instead_of);
  if (place != lease->in_flight.end()) *place = &task;
}

void Scheduling::exchange(TaskRecord& task, TaskRecord& copy) {
  const LeaseId first = task.lease, second = copy.lease;
  put_in_place(task, second, copy);
  put_in_place(copy, first, task);
  std::swap(task.lease, copy.lease);
  std::swap(task.worker, copy.worker);
  std::swap(task.attempt, copy.attempt);
}

}  // namespace aktis::core
