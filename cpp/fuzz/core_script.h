// What an input of core_peer_fuzz means: what kind of process the core is, then steps.
//
// A step is a byte that says what, two bytes of length and that much payload. From 32 on it is a frame of the
// peer's of that type (CoreFrame); below, something that this process does itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "core/messages.h"

namespace aktis::fuzz {

enum class Act : std::uint8_t {
  kDecide = 0,   // take the events and answer them as Python would
  kExecute = 1,  // begin the next task that was pushed here
  kFinish = 2,   // the oldest that was begun; payload: with which status
  kItem = 3,     // it yields an item
  kDrop = 4,     // drop a reference; payload: which
  kCancel = 5,   // cancel a task; payload: which of kTasks
  kFree = 6,     // free an object; payload: which reference
  kLook = 7,     // what this process knows, for people
  kPass = 8,     // let what is posted happen
  kLast = kPass,
};

inline constexpr std::uint8_t kIsWorker = 1;  // bits of the first byte
inline constexpr std::uint8_t kIsActor = 2;

struct Step {
  std::uint8_t what = 0;
  std::span<const std::byte> payload;
};

// Takes the next step off the input.
inline std::optional<Step> next_step(std::span<const std::byte>& input) {
  if (input.size() < 3) return std::nullopt;
  std::uint16_t length;
  std::memcpy(&length, &input[1], sizeof length);
  const Step step{static_cast<std::uint8_t>(input[0]),
                  input.subspan(3, std::min<std::size_t>(length, input.size() - 3))};
  input = input.subspan(3 + step.payload.size());
  return step;
}

// Ids of the two processes, and of what the core has submitted and stored when the script begins.
inline WorkerId worker(std::uint8_t number) {
  WorkerId id;
  std::fill_n(id.data, WorkerId::kBytes, number);
  return id;
}
inline const WorkerId kSelf = worker(1);
inline const WorkerId kPeer = worker(2);
inline TaskId task_of(const WorkerId& owner, std::uint64_t number) { return make_task_id(owner, number); }
inline const ObjectId kInner = ObjectId::of(task_of(kSelf, 1), ObjectId::kPutBit);
inline const ObjectId kOuter = ObjectId::of(task_of(kSelf, 2), ObjectId::kPutBit);  // contains kInner
inline const TaskId kPlain = task_of(kSelf, 3);                                     // two returns
inline const TaskId kDependent = task_of(kSelf, 4);  // takes kPlain's first and kOuter
inline const TaskId kGenerator = task_of(kSelf, 5);
inline const TaskId kRetried = task_of(kSelf, 6);          // may run again when it raises, and twice at once
inline const TaskId kCall = task_of(kSelf, 7 | kCallBit);  // of kActor
inline const TaskId kSecondCall = task_of(kSelf, 8 | kCallBit);
inline const TaskId kTasks[] = {kPlain, kDependent, kGenerator, kRetried, kCall, kSecondCall};
inline const ObjectId kBorrowed = ObjectId::of(task_of(kPeer, 1), 0);  // the peer's
inline ActorId actor() {
  ActorId id;
  id.data[0] = 5;
  return id;
}
inline const ActorId kActor = actor();

}  // namespace aktis::fuzz
