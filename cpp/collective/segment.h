// The shared memory of one group on one node, and how its members wait for one another in it.
//
// A memfd of which every member has a mapping: nothing has a name, so nothing can be left behind. Each member
// holds a record lock on one byte of it, which the kernel takes away when the process dies, whatever it dies
// of; that is how the others learn of it. (Record locks belong to a process: a forked child does not keep
// its dead parent's.)
//
// Members trust each other: they are processes of one job. What lies here is checked only as far as it is
// needed so that a mistake of one cannot make another write outside of its buffers.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>

#include "collective/reduce.h"

namespace aktis::collective {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

inline constexpr std::uint32_t kMaxMembers = 256;
// Large enough that a step's costs do not count, small enough that it stays in a core's cache.
inline constexpr std::size_t kChunkBytes = 256 * 1024;
inline constexpr std::size_t kSlotBytes = 64 * 1024;
inline constexpr std::uint32_t kSlots = 4;

// The group cannot go on: a member died, left, or was too late. Sticks: every later call fails with it.
struct GroupFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct GroupTimedOut : GroupFailed {
  using GroupFailed::GroupFailed;
};

enum class Call : std::uint8_t { kBarrier, kAllReduce, kReduce, kBroadcast, kAllGather, kReduceScatter };

// What a member is about to do; all members must be about to do the same.
struct Description {
  Call call = Call::kBarrier;
  DataType type = DataType::kUint8;
  Operation operation = Operation::kSum;
  std::uint32_t root = 0;
  std::uint64_t count = 0;  // elements
  bool operator==(const Description&) const = default;
};
std::string text_of(const Description& description);

// A number that one process raises and others wait for. Lives in shared memory.
struct Bell {
  std::atomic<std::uint32_t> value;
  std::atomic<std::uint32_t> waiters;  // too many when a waiter died: costs a system call, no more
  void ring(std::uint32_t to);
};

// Guarded by nothing but its atomics: one writer each, the member itself.
struct alignas(64) Member {
  Bell progress;  // steps that it has published
  std::atomic<std::uint32_t> joined;
  std::atomic<std::uint32_t> left;
  std::int32_t pid;
  alignas(64) Description said[2];  // by the step's parity
};

struct Slot {
  std::uint64_t message_bytes;
  std::uint32_t slot_bytes;
  DataType type;
};

// Messages from one member to another, in slots. `sent` is the sender's, `taken` the receiver's.
struct alignas(64) Channel {
  Bell sent;
  alignas(64) Bell taken;
  alignas(64) Slot slots[kSlots];
};

class Segment {
 public:
  // Called now and then while a member waits; may throw, which breaks the group.
  using Interrupt = std::function<void()>;

  // A new memory for a group of this size: a descriptor that the caller owns. Throws std::system_error.
  static int create(std::uint32_t world_size);

  // Takes over the descriptor, also when it throws: std::system_error, std::invalid_argument when it is no
  // memory of such a group.
  Segment(int descriptor, std::uint32_t rank, std::uint32_t world_size, Interrupt interrupt);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  std::uint32_t rank() const { return rank_; }
  std::uint32_t world_size() const { return world_size_; }
  Member& member(std::uint32_t rank) const;
  std::byte* buffer(std::uint32_t rank, std::uint32_t step) const;
  Channel& channel(std::uint32_t from, std::uint32_t to) const;
  std::byte* slot(std::uint32_t from, std::uint32_t to, std::uint32_t number) const;

  // Waits until the bell, which `rank` rings, has come to `target` (numbers may wrap around).
  // Throws GroupFailed, GroupTimedOut, or what `interrupt` throws, and has then broken the group for all.
  void await(Bell& bell, std::uint32_t target, std::uint32_t rank, TimePoint deadline);
  void check_unbroken() const;
  void break_with(const std::string& reason);

 private:
  struct Header;
  Header& header() const;
  void map();
  void hold_lock();
  bool is_gone(std::uint32_t rank) const;
  void sleep(Bell& bell, std::uint32_t target, std::uint32_t rank, TimePoint deadline);

  const int descriptor_;
  const std::uint32_t rank_;
  const std::uint32_t world_size_;
  const Interrupt interrupt_;
  const std::uint32_t spins_;
  std::byte* base_ = nullptr;
};

}  // namespace aktis::collective
