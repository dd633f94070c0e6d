// What this process knows at one moment, for people who ask what the cluster does. Nothing is kept for it:
// the tables that the work needs are looked through, with the mutex held for a few hundred entries at a time.
#include <algorithm>

#include "core/core.h"
#include "core/look_through.h"
#include "core/proto_writer.h"

namespace aktis::core {
namespace {

constexpr std::size_t kMaxBytes = 16u << 20;  // names can be long

// TaskSnapshot.State in snapshot.proto.
enum class Seen : std::uint8_t { kNot, kWaiting, kQueued, kPushed, kSuspended, kReceived, kRunning };

Seen seen(const TaskRecord& task) {
  switch (task.state) {
    case TaskState::kWaiting:
      return Seen::kWaiting;
    case TaskState::kQueued:
      return Seen::kQueued;
    case TaskState::kPushed:
      return Seen::kPushed;
    case TaskState::kSuspended:
      return Seen::kSuspended;
    case TaskState::kFinished:
      return Seen::kNot;
  }
  return Seen::kNot;
}

// Collects what there is room for and counts the rest.
struct Collected {
  std::vector<std::byte>& out;
  std::size_t limit;
  std::size_t begin = out.size();
  std::size_t count = 0;
  std::uint64_t left_off = 0;

  void add(int field, const std::vector<std::byte>& one) {
    ++count;
    put_bytes(out, field, one.data(), one.size());
  }
  bool has_room() {
    if (count < limit && out.size() < kMaxBytes) return true;
    ++left_off;
    return false;
  }
  void restart() {
    out.resize(begin);
    count = left_off = 0;
  }
};

constexpr int kTasks = 5, kObjects = 6, kLeftOff = 7;  // fields of ProcessSnapshot

void put_state(std::vector<std::byte>& one, int field, Seen state) {
  put_number(one, field, static_cast<std::uint64_t>(state));
}

std::vector<std::byte> encode(const TaskRecord& task, const JobId& job) {
  std::vector<std::byte> one;
  put_id(one, 1, task.id);
  put_number(one, 2, task.attempt);
  put_state(one, 3, seen(task));
  put_id(one, 4, task.parent);
  put_id(one, 5, task.actor);
  put_text(one, 6, task.shape->name);
  put_number(one, 7, task.shape->class_key);
  if (task.state == TaskState::kPushed) put_id(one, 8, task.worker);
  put_number(one, 9, static_cast<std::uint64_t>(task.submit_unix_ns));
  put_id(one, 11, job);
  return one;
}

std::vector<std::byte> encode(const IncomingTask& task, Seen state) {
  std::vector<std::byte> one;
  const TaskMessage& message = task.message;
  put_id(one, 1, message.id);
  put_number(one, 2, message.attempt);
  put_state(one, 3, state);
  put_id(one, 4, message.parent);
  put_id(one, 5, message.actor);
  put_text(one, 6, message.name);
  if (state == Seen::kRunning) put_number(one, 10, static_cast<std::uint64_t>(task.start_unix_ns));
  put_id(one, 11, message.job);
  put_number(one, 12, message.kind == TaskKind::kActorCreation ? 1 : 0);
  return one;
}

}  // namespace

std::uint64_t Core::snapshot_tasks(std::vector<std::byte>& out, std::size_t limit) {
  Collected executed{out, limit};
  {
    Guard guard(mutex_);
    const auto see = [&](const TaskHandle& task, Seen state) {
      if (executed.has_room()) executed.add(kTasks, encode(*task, state));
    };
    if (creation_) see(creation_, Seen::kRunning);
    for (const auto& [id, task] : running_) see(task, Seen::kRunning);
    for (const auto& [id, task] : taken_) see(task, Seen::kReceived);
    for (const auto& [name, group] : groups_) {
      for (const TaskHandle& task : group.queue) see(task, Seen::kReceived);
    }
  }
  Collected submitted{out, limit};
  const auto see = [&](const auto& entry) {
    const TaskRecord& task = *entry.second;
    if (seen(task) != Seen::kNot && submitted.has_room()) submitted.add(kTasks, encode(task, job_));
  };
  look_through(tasks_, [this] { return Guard(mutex_); }, [&] { submitted.restart(); }, see);
  return executed.left_off + submitted.left_off;
}

std::vector<std::byte> Core::encode_object(const ObjectId& id, const ObjectEntry& known) const {
  const ReferenceCounts counts = references_.counts(id);
  std::vector<std::byte> one;
  put_id(one, 1, id);
  put_number(one, 2, known.value ? known.value->view().size() : known.size_bytes);
  put_number(one, 3, known.exists() ? 1 : 0);
  put_number(one, 4, known.owned ? 1 : 0);
  put_number(one, 5, known.state == ObjectState::kMapped ? 1 : 0);
  put_number(one, 6, counts.local);
  put_number(one, 7, counts.task_uses);
  put_number(one, 8, counts.containers);
  put_number(one, 9, counts.pinned ? 1 : 0);
  if (const auto task = tasks_.find(id.task()); task != tasks_.end() && !known.exists()) {
    put_number(one, 11, task->second->attempt);
    put_state(one, 12, seen(*task->second));
  }
  put_number(one, 13, counts.borrowers + counts.return_holds);
  return one;
}

std::uint64_t Core::snapshot_objects(std::vector<std::byte>& out, std::size_t limit) {
  {
    Guard guard(mutex_);
    drain_drops();
    settle_references();
    unlock_and_flush(guard);
  }
  Collected held{out, limit};
  const auto see = [&](const auto& entry) {
    if (held.has_room()) held.add(kObjects, encode_object(entry.first, entry.second));
  };
  look_through(objects_, [this] { return Guard(mutex_); }, [&] { held.restart(); }, see);
  if (!plasma_) return held.left_off;
  // What nobody refers to any more, but somebody still reads.
  for (const auto& [id, size_bytes] : plasma_->in_use(limit)) {
    Guard guard(mutex_);
    if (objects_.count(id) != 0 || !held.has_room()) continue;
    ObjectEntry read;
    read.state = ObjectState::kMapped;
    read.size_bytes = size_bytes;
    held.add(kObjects, encode_object(id, read));
  }
  return held.left_off;
}

std::vector<std::byte> Core::snapshot(bool tasks, bool objects, std::size_t limit) {
  std::vector<std::byte> out;
  std::uint64_t left_off = 0;
  if (tasks) left_off += snapshot_tasks(out, limit);
  if (objects) left_off += snapshot_objects(out, limit);
  put_number(out, kLeftOff, left_off);
  return out;
}

}  // namespace aktis::core
