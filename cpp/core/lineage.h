// What an owner keeps so that a lost result can be computed again: the records of finished tasks.
//
// Only what lies in shared memory can be lost, so a record is kept as long as one of the task's results that
// went there is referenced, or is needed in turn by another record. Of its arguments a record pins what the
// owner needs to know: their values may be freed meanwhile (that is the point), their own records stay. Small
// values live with the owner alone and cannot be had again by asking anybody: when such an argument is freed
// its value moves here. Arguments that belong to other processes are not kept; they may be gone.
//
// Records and values together have a limit in bytes; beyond it the oldest records go, and why a result cannot
// be computed again is remembered for as long as it is referenced.
//
// Pure and without a lock, like the reference table that it pins in. Nothing recurses: a chain of a million
// records is planned and dropped by work lists (the table settles what one record's end makes superfluous).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/references.h"
#include "core/tasks.h"
#include "core/value.h"
#include "wire/ids.h"

namespace aktis::core {

// What must be done to compute one lost object again.
struct Recovery {
  std::vector<TaskId> tasks;      // run these, in the order in which they were submitted once
  std::vector<ObjectId> revived;  // freed arguments: they exist again, with the value kept or pending
  std::string problem;            // why it cannot be done; then the rest does not count
  ObjectId obstacle;              // the object that the problem is about
};

class Lineage {
 public:
  // Why a finished task has no record.
  enum class Missing : std::uint8_t { kUnknown, kAtMostOnce, kRetriesUsed, kActorMethod, kStream, kEvicted };

  Lineage(ReferenceTable& table, std::size_t limit_bytes) : table_(table), limit_bytes_(limit_bytes) {}
  void set_limit(std::size_t limit_bytes) { limit_bytes_ = limit_bytes; }

  // The record of a task that has ended with a result in shared memory; call it before the task's uses are
  // let go. `is_small`: an object whose value only this process has. What such a value contains is used too,
  // because once it is freed nobody else would count that.
  void keep(std::unique_ptr<TaskRecord> task, const std::function<bool(const ObjectId&)>& is_small);
  // A task that has ended so but may not run again; `results`: how many there are (of a stream: with items).
  void decline(const TaskRecord& task, std::uint32_t results);
  // The record of a task that is about to run again; its uses are now all that it needs. `use` is called for
  // each of them before the pins go. Throws std::logic_error when there is no record.
  std::unique_ptr<TaskRecord> take(const TaskId& task, const std::function<void(const ObjectId&)>& use);
  const TaskRecord* find(const TaskId& task) const;

  // A freed argument whose value only this process had.
  void keep_value(const ObjectId& id, std::shared_ptr<const OwnedValue> value);
  bool has_value(const ObjectId& id) const { return values_.contains(id); }
  // The value, which is not kept any longer; null when there is none.
  std::shared_ptr<const OwnedValue> take_value(const ObjectId& id);

  // The reference table has let go of an object of ours for good; once for each.
  void object_gone(const ObjectId& id);
  // Drops the oldest record if all are over the limit; the table has new actions then. False: within it.
  bool evict_one();

  // `under_way`: whether a task is running or will. `cannot`: why an actor cannot run a method, if so.
  Recovery plan(const ObjectId& lost, const std::function<bool(const TaskId&)>& under_way,
                const std::function<std::string(const ActorId&)>& cannot) const;

  std::size_t bytes() const { return bytes_; }
  std::size_t size() const { return records_.size(); }
  bool idle() const { return records_.empty() && values_.empty() && missing_.empty() && bytes_ == 0; }

 private:
  struct Kept {
    std::unique_ptr<TaskRecord> task;
    std::vector<ObjectId> uses;  // those that are owned here are pinned
    std::size_t bytes = 0;
    std::list<TaskId>::iterator place;  // in order_
  };
  struct Absence {
    Missing why = Missing::kUnknown;
    std::uint32_t results = 0;  // still referenced
  };
  using Records = std::unordered_map<TaskId, Kept, IdHash>;

  std::vector<ObjectId> all_uses(const TaskRecord& task,
                                 const std::function<bool(const ObjectId&)>& is_small) const;
  Kept remove(Records::iterator position);
  void unpin(const Kept& kept);
  void drop(Records::iterator position);
  void remember(const TaskId& task, std::uint32_t results, Missing why);
  std::string why_not(const ObjectId& id) const;

  ReferenceTable& table_;
  std::size_t limit_bytes_;
  Records records_;
  std::list<TaskId> order_;  // oldest first
  std::unordered_map<ObjectId, std::shared_ptr<const OwnedValue>, IdHash> values_;
  std::unordered_map<TaskId, Absence, IdHash> missing_;
  std::size_t bytes_ = 0;
};

}  // namespace aktis::core
