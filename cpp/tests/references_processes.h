// What the processes of a simulated cluster remember, and what they send one another.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/lineage.h"
#include "core/references.h"
#include "references_oracle.h"

namespace aktis::testing {

// Ways to use the table wrongly. Each must be caught, or else the simulation would prove nothing.
enum class Sabotage {
  kNone,
  kReplyBeforeAck,      // ignores that end_task() said "not yet"
  kNoReturnHold,        // rule 4 dropped
  kReleaseReturnEarly,  // RETURN_RELEASE before the registrations are acknowledged
  kUsesBeforeAdopt,     // arguments let go before the reply's references are taken over
  kOneUsePerTask,       // the first reply of a speculated task lets all its attempts' uses go
  kNoContents,          // a stored object does not count what it contains
  kUnordered,           // messages of one pair overtake each other
  kRecordAfterUses,     // arguments let go before the record of the task pins them
  kShallowLineage,      // a record does not pin what small arguments contain
};

// Where a process keeps handles: its variables that outlive tasks (a driver's, an actor's state), or the
// frame of one running task, named by its attempt.
using Context = std::uint64_t;
inline constexpr Context kState = 0;

struct Message {
  enum class Kind { kProtocol, kPush, kReply, kLost };
  Kind kind = Kind::kProtocol;
  ReferenceAction action = {};  // kProtocol
  std::uint64_t attempt = 0;    // kPush, kReply
  TaskId task = {};             // kPush, kReply
  std::vector<ObjectId> args = {};
  std::uint64_t hold = 0;  // kReply
  std::vector<ReturnedRef> refs = {};
  bool given_back = false;
};

struct Run {
  TaskId task;
  int caller = -1;
  std::vector<ObjectId> handles;
  std::vector<ObjectId> results;
  std::optional<Message> reply;  // being held back
};

struct Attempt {
  TaskId task;
  int executor = -1;
  std::vector<ObjectId> uses;
};

struct Task {
  std::vector<ObjectId> args;
  std::vector<ObjectId> results;
  std::set<ObjectId> records;  // results whose lineage record is still there
  bool done = false;
  bool failed = false;  // ended without a result
};

struct Process {
  WorkerId id;
  std::unique_ptr<ReferenceTable> table;
  std::unique_ptr<core::Lineage> lineage;
  std::vector<ObjectId> state;
  std::map<std::uint64_t, Run> runs;
  std::map<std::uint64_t, Attempt> attempts;
  std::map<TaskId, Task> tasks;
  std::map<std::uint64_t, std::pair<int, std::vector<ObjectId>>> holds;
  std::set<int> known_dead;
  std::vector<ObjectId> pinned;
};

// What the program of process p counts on: not what it merely could forget.
inline std::vector<Hold> holds_of(const Process& process, int p, const Oracle& oracle) {
  std::vector<Hold> holds;
  const auto add = [&](const std::vector<ObjectId>& ids) {
    for (const ObjectId& id : ids) holds.emplace_back(p, id);
  };
  add(process.state);
  add(process.pinned);
  for (const auto& [number, run] : process.runs) add(run.handles);
  for (const auto& [number, attempt] : process.attempts) add(attempt.uses);
  for (const auto& [number, hold] : process.holds) {
    if (oracle.alive(hold.first)) add(hold.second);
  }
  return holds;
}

// A message of the protocol arrives; false when it is none.
inline bool receive(ReferenceTable& table, const WorkerId& from, const ReferenceAction& action) {
  switch (action.kind) {
    case ReferenceAction::Kind::kSendBorrowAdd:
      table.on_borrow_add(from, action.object, action.generation);
      return true;
    case ReferenceAction::Kind::kSendBorrowAck:
      table.on_borrow_ack(from, action.object, action.generation);
      return true;
    case ReferenceAction::Kind::kSendBorrowNack:
      table.on_borrow_nack(from, action.object, action.generation);
      return true;
    case ReferenceAction::Kind::kSendBorrowRemove:
      table.on_borrow_remove(from, action.object, action.generation);
      return true;
    case ReferenceAction::Kind::kSendReturnRelease:
      table.on_return_release(from, action.generation);
      return true;
    default:
      return false;
  }
}

// For stories and failures.
inline std::string name(const ObjectId& id) {
  if (id.is_nil()) return "";
  std::uint64_t number;
  std::memcpy(&number, id.data + 8, sizeof number);
  const std::uint32_t index = id.index();
  return "o" + std::to_string(number) + (index & ObjectId::kPutBit ? "" : "." + std::to_string(index));
}

inline std::string name(ReferenceAction::Kind kind) {
  static const char* const kNames[] = {"ADD",    "ACK",       "NACK",    "REMOVE",     "RETURN_RELEASE",
                                       "free",   "droppable", "release", "owner died", "lost",
                                       "endable"};
  return kNames[static_cast<int>(kind)];
}

}  // namespace aktis::testing
