// Identities. Every id that could come back from the dead is made of random bits and never reused,
// so the id itself is the epoch: a restarted process has a new WorkerId.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

namespace aktis {

template <typename Tag, std::size_t Bytes>
struct Id {
  static constexpr std::size_t kBytes = Bytes;
  std::uint8_t data[Bytes] = {};

  static Id from_bytes(const void* raw) {
    Id id;
    std::memcpy(id.data, raw, Bytes);
    return id;
  }
  static Id random();  // from getrandom(2)
  bool is_nil() const { return *this == Id{}; }
  std::string hex() const;
  std::string binary() const { return {reinterpret_cast<const char*>(data), Bytes}; }
  auto operator<=>(const Id&) const = default;
};

using WorkerId = Id<struct WorkerTag, 16>;  // a process: worker, actor or driver
using NodeId = Id<struct NodeTag, 16>;
using JobId = Id<struct JobTag, 4>;
using ActorId = Id<struct ActorTag, 16>;
using FunctionId = Id<struct FunctionTag, 16>;  // content hash of an exported function or class
// 8 random bytes of the submitting worker, then its counter: unique without coordination. The counter's top
// bit is set for calls of actors, so that whoever holds a result knows, without asking, what makes it.
using TaskId = Id<struct TaskTag, 16>;
inline constexpr std::uint64_t kCallBit = 1ull << 63;
inline TaskId make_task_id(const WorkerId& worker, std::uint64_t number) {
  TaskId id;
  std::memcpy(id.data, worker.data, 8);
  std::memcpy(id.data + 8, &number, 8);
  return id;
}
inline bool is_call(const TaskId& id) {
  std::uint64_t number;
  std::memcpy(&number, id.data + 8, 8);
  return (number & kCallBit) != 0;
}
// The task that makes the object, then the index of the return value; puts set kPutBit in the index.
struct ObjectId : Id<struct ObjectTag, 20> {
  static constexpr std::uint32_t kPutBit = 0x80000000u;
  static ObjectId of(const TaskId& task, std::uint32_t index) {
    ObjectId id;
    std::memcpy(id.data, task.data, 16);
    std::memcpy(id.data + 16, &index, 4);
    return id;
  }
  static ObjectId from_bytes(const void* raw) {
    ObjectId id;
    std::memcpy(id.data, raw, 20);
    return id;
  }
  TaskId task() const { return TaskId::from_bytes(data); }
  std::uint32_t index() const {
    std::uint32_t index;
    std::memcpy(&index, data + 16, 4);
    return index;
  }
};

struct IdHash {
  template <typename T>
  std::size_t operator()(const T& id) const {
    // The counter (bytes 8-15) and the return index (16-19) vary; the random prefix rarely does.
    std::uint64_t head, tail = 0;
    if constexpr (T::kBytes < 16) {
      std::uint32_t value;
      std::memcpy(&value, id.data, 4);
      head = value;
    } else {
      std::memcpy(&head, id.data, 8);
      std::memcpy(&tail, id.data + 8, 8);
      if constexpr (T::kBytes == 20) {
        std::uint32_t index;
        std::memcpy(&index, id.data + 16, 4);
        tail += static_cast<std::uint64_t>(index) << 40;
      }
    }
    std::uint64_t mixed = (head ^ (tail * 0x9e3779b97f4a7c15ull));
    mixed ^= mixed >> 32;
    return mixed * 0xff51afd7ed558ccdull;
  }
};

}  // namespace aktis
