// What the processes of a simulated cluster keep of their finished tasks: the core's own lineage, around
// which the simulation does what the core does.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/lineage.h"
#include "references_processes.h"

namespace aktis::testing {

// Objects of put() stand for small values, which only their owner has; results lie in shared memory.
inline bool is_small(const ObjectId& id) { return (id.index() & ObjectId::kPutBit) != 0; }

inline std::shared_ptr<const core::OwnedValue> some_value() {
  static const auto value = std::make_shared<const core::OwnedValue>(1);
  return value;
}

// A task has ended with its results.
inline void keep_record(Process& process, const TaskId& id, const Task& task, Sabotage sabotage) {
  static const auto shape = [] {
    auto common = std::make_shared<core::TaskTemplate>();
    common->num_returns = 2;
    common->max_retries = -1;
    return common;
  }();
  auto record = std::make_unique<core::TaskRecord>();
  record->id = id;
  record->shape = shape;
  record->args = some_value();
  record->uses = task.args;
  for (std::uint32_t i = 0; i < task.results.size(); ++i) {
    if (process.table->is_owned(task.results[i])) record->result_stored(i);
  }
  if (record->live_results == 0) return;
  const bool shallow = sabotage == Sabotage::kShallowLineage;
  process.lineage->keep(std::move(record), [&](const ObjectId& use) { return is_small(use) && !shallow; });
}

// What must run so that a lost result is there again.
inline core::Recovery plan_recovery(const Process& process, const ObjectId& lost) {
  return process.lineage->plan(
      lost,
      [&](const TaskId& id) {
        const auto task = process.tasks.find(id);
        return task != process.tasks.end() && !task->second.done;
      },
      [](const ActorId&) { return std::string{}; });
}

// Whether a plan of p may have failed: what is borrowed may be gone, and some tasks end without a result.
inline bool may_fail(const core::Recovery& plan, const Process& process, int p, const Oracle& oracle) {
  if (oracle.owner(plan.obstacle) != p) return true;
  const auto task = process.tasks.find(plan.obstacle.task());
  return task != process.tasks.end() && task->second.failed;
}

// Two attempts of one task in one process would share their cover.
inline bool runs_any(const Process& process, const std::vector<TaskId>& tasks, int executor) {
  for (const auto& [number, attempt] : process.attempts) {
    const bool same = std::find(tasks.begin(), tasks.end(), attempt.task) != tasks.end();
    if (same && attempt.executor == executor) return true;
  }
  return false;
}

// Freed objects of p exist again: small ones as they were, with what they contain, others without contents.
// Returns what a small one contained and is in the table no more, nil when there is no such object.
inline ObjectId come_back(Process& process, int p, Oracle& oracle, std::vector<ObjectId> work) {
  ObjectId missing;
  while (!work.empty()) {
    const ObjectId id = work.back();
    work.pop_back();
    std::vector<ObjectId> inner;
    if (process.lineage->take_value(id) != nullptr) {
      for (const ObjectId& former : process.table->formerly_contained(id)) {
        (process.table->contains(former) ? inner.emplace_back() : missing) = former;
        if (process.table->is_freed(former)) work.push_back(former);
      }
    }
    oracle.object(id) = {p, false, inner, inner};
    process.table->set_contained(id, inner);
  }
  return missing;
}

}  // namespace aktis::testing
