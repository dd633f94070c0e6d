#include "core/lineage.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <unordered_set>
#include <utility>

namespace aktis::core {
namespace {

std::size_t footprint_of(const TaskRecord& task, std::size_t uses) {
  return task.footprint_bytes() + task.arguments.size() * sizeof(Argument) +
         (task.uses.size() + uses) * sizeof(ObjectId);
}

bool is_put(const ObjectId& id) { return (id.index() & ObjectId::kPutBit) != 0; }

// All are tasks of one process, which counts them. So an argument's comes before the task that needs it, and
// methods of an actor in order.
bool submitted_before(const TaskId& one, const TaskId& other) {
  std::uint64_t first, second;
  std::memcpy(&first, one.data + 8, sizeof(first));
  std::memcpy(&second, other.data + 8, sizeof(second));
  return first < second;
}

}  // namespace

// ---- keeping ----

void Lineage::keep(std::unique_ptr<TaskRecord> task, const std::function<bool(const ObjectId&)>& is_small) {
  Kept kept{.uses = all_uses(*task, is_small)};
  for (const ObjectId& use : kept.uses) {
    if (table_.is_owned(use)) table_.add_lineage_pin(use);
  }
  const TaskId id = task->id;
  kept.bytes = footprint_of(*task, kept.uses.size());
  kept.task = std::move(task);
  kept.place = order_.insert(order_.end(), id);
  bytes_ += kept.bytes;
  records_.emplace(id, std::move(kept));
}

// The task's uses and what small values among them contain, at any depth.
std::vector<ObjectId> Lineage::all_uses(const TaskRecord& task,
                                        const std::function<bool(const ObjectId&)>& is_small) const {
  std::vector<ObjectId> uses;
  std::unordered_set<ObjectId, IdHash> seen;
  const auto add = [&](std::span<const ObjectId> ids) {
    for (const ObjectId& id : ids) {
      if (seen.insert(id).second) uses.push_back(id);
    }
  };
  add(task.uses);
  for (std::size_t i = 0; i < uses.size(); ++i) {
    if (table_.is_owned(uses[i]) && is_small(uses[i])) add(table_.contained(uses[i]));
  }
  return uses;
}

void Lineage::decline(const TaskRecord& task, std::uint32_t results) {
  Missing why = Missing::kRetriesUsed;
  if (task.shape->max_retries == 0) why = task.actor.is_nil() ? Missing::kAtMostOnce : Missing::kActorMethod;
  if (task.shape->streaming) why = Missing::kStream;
  remember(task.id, results, why);
}

// For as long as any of its results is in the table: each of them is reported to object_gone() once.
void Lineage::remember(const TaskId& task, std::uint32_t results, Missing why) {
  std::uint32_t live = 0;
  for (std::uint32_t i = 0; i < results; ++i) {
    if (table_.is_owned(ObjectId::of(task, i))) ++live;
  }
  if (live > 0) missing_[task] = {why, live};
}

std::unique_ptr<TaskRecord> Lineage::take(const TaskId& id, const std::function<void(const ObjectId&)>& use) {
  const auto position = records_.find(id);
  if (position == records_.end()) throw std::logic_error("Lineage::take(" + id.hex() + "): no such record");
  for (const ObjectId& used : position->second.uses) use(used);
  Kept kept = remove(position);
  unpin(kept);
  kept.task->uses = std::move(kept.uses);
  return std::move(kept.task);
}

const TaskRecord* Lineage::find(const TaskId& id) const {
  const auto position = records_.find(id);
  return position == records_.end() ? nullptr : position->second.task.get();
}

void Lineage::keep_value(const ObjectId& id, std::shared_ptr<const OwnedValue> value) {
  bytes_ += value->view().size();
  values_.emplace(id, std::move(value));
}

std::shared_ptr<const OwnedValue> Lineage::take_value(const ObjectId& id) {
  const auto node = values_.extract(id);
  if (node.empty()) return nullptr;
  bytes_ -= node.mapped()->view().size();
  return std::move(node.mapped());
}

// ---- letting go ----

void Lineage::object_gone(const ObjectId& id) {
  if (records_.empty() && values_.empty() && missing_.empty()) return;  // the common program loses nothing
  take_value(id);
  if (const auto position = records_.find(id.task()); position != records_.end()) {
    position->second.task->result_gone(id.index());
    if (position->second.task->live_results == 0) drop(position);
  } else if (const auto absence = missing_.find(id.task()); absence != missing_.end()) {
    if (--absence->second.results == 0) missing_.erase(absence);
  }
}

Lineage::Kept Lineage::remove(Records::iterator position) {
  Kept kept = std::move(position->second);
  order_.erase(kept.place);
  bytes_ -= kept.bytes;
  records_.erase(position);
  return kept;
}

// What only this record needed comes back as an action of the table: see object_gone().
void Lineage::drop(Records::iterator position) { unpin(remove(position)); }

// What is ours stays ours as long as it is in the table, where the pin has kept it.
void Lineage::unpin(const Kept& kept) {
  for (const ObjectId& use : kept.uses) {
    if (table_.is_owned(use)) table_.remove_lineage_pin(use);
  }
}

bool Lineage::evict_one() {
  if (bytes_ <= limit_bytes_ || order_.empty()) return false;
  const auto oldest = records_.find(order_.front());
  const TaskRecord& task = *oldest->second.task;
  remember(task.id, task.shape->num_returns, Missing::kEvicted);
  drop(oldest);
  return true;
}

// ---- planning ----

Recovery Lineage::plan(const ObjectId& lost, const std::function<bool(const TaskId&)>& under_way,
                       const std::function<std::string(const ActorId&)>& cannot) const {
  Recovery recovery;
  std::unordered_set<ObjectId, IdHash> seen = {lost};
  std::unordered_set<TaskId, IdHash> chosen;
  std::vector<ObjectId> work = {lost};
  const auto refuse = [&](const ObjectId& id, const std::string& why) {
    recovery.problem = id == lost ? why : "its argument " + id.hex() + " is gone too: " + why;
    recovery.obstacle = id;
    return recovery;
  };
  while (!work.empty()) {
    const ObjectId id = work.back();
    work.pop_back();
    if (id != lost) recovery.revived.push_back(id);
    if (values_.contains(id) || under_way(id.task()) || chosen.contains(id.task())) continue;
    const auto position = records_.find(id.task());
    if (position == records_.end()) return refuse(id, why_not(id));
    const Kept& kept = position->second;
    if (!kept.task->actor.is_nil()) {
      if (const auto problem = cannot(kept.task->actor); !problem.empty()) return refuse(id, problem);
    }
    chosen.insert(kept.task->id);
    recovery.tasks.push_back(kept.task->id);
    for (const ObjectId& use : kept.uses) {
      if (!seen.insert(use).second) continue;
      if (!table_.contains(use)) return refuse(use, "it is owned by another process and was let go of here");
      if (table_.is_freed(use)) work.push_back(use);
    }
  }
  std::sort(recovery.tasks.begin(), recovery.tasks.end(), submitted_before);
  return recovery;
}

std::string Lineage::why_not(const ObjectId& id) const {
  if (is_put(id)) return "it was stored by put(), and only results of tasks can be computed again";
  const auto absence = missing_.find(id.task());
  switch (absence == missing_.end() ? Missing::kUnknown : absence->second.why) {
    case Missing::kAtMostOnce:
      return "its task may run only once (max_retries=0)";
    case Missing::kRetriesUsed:
      return "its task has no retries left (max_retries, or max_task_retries of an actor)";
    case Missing::kActorMethod:
      return "it is the result of an actor's method that may run only once (max_task_retries=0)";
    case Missing::kStream:
      return "it is an item of a generator, whose task is not run again for one of them";
    case Missing::kEvicted:
      return "its lineage was evicted: records of finished tasks take at most " +
             std::to_string(limit_bytes_) + " bytes in a process (core.lineage_bytes)";
    case Missing::kUnknown:
      break;
  }
  return "nothing is known any more of the task that made it";
}

}  // namespace aktis::core
