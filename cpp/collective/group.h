// Collective operations in shared memory, as one member of the group sees them.
//
// An operation is a sequence of steps that every member takes. In step k a member writes at most one chunk
// into its buffer of k's parity, publishes k, waits for the members whose buffers it reads, and reads. It
// begins step k only when everybody has published k - 1, so everybody has read what lay in that buffer
// before. In the first step everybody waits for everybody and compares what they are about to do; when they
// differ all of them throw std::invalid_argument after the same number of steps, and the group goes on.
//
// Reductions are made in the order of the ranks, so that every member has the same bits.
//
// One thread at a time calls a collective operation, one send and one receive. All throw GroupFailed when the
// group is broken or breaks; see Segment::await.
#pragma once

#include <vector>

#include "collective/segment.h"

namespace aktis::collective {

class Group {
 public:
  Group(int descriptor, std::uint32_t rank, std::uint32_t world_size, Segment::Interrupt interrupt);

  void barrier(TimePoint deadline);
  void all_reduce(std::byte* data, std::size_t count, DataType type, Operation operation, TimePoint deadline);
  // Only the root's data changes.
  void reduce(std::byte* data, std::size_t count, DataType type, Operation operation, std::uint32_t root,
              TimePoint deadline);
  void broadcast(std::byte* data, std::size_t count, DataType type, std::uint32_t root, TimePoint deadline);
  // outputs: one array of `count` elements per member.
  void all_gather(const std::byte* data, std::span<std::byte* const> outputs, std::size_t count,
                  DataType type, TimePoint deadline);
  // inputs: one array of `count` elements per member, of which each gets the reduction of its own.
  void reduce_scatter(std::span<const std::byte* const> inputs, std::byte* output, std::size_t count,
                      DataType type, Operation operation, TimePoint deadline);

  // A few hundred KiB are taken without waiting for the receiver.
  void send(const std::byte* data, std::size_t count, DataType type, std::uint32_t to, TimePoint deadline);
  // Throws std::invalid_argument when another number or type of elements comes; that message is lost.
  void receive(std::byte* data, std::size_t count, DataType type, std::uint32_t from, TimePoint deadline);

 private:
  std::byte* begin_step(TimePoint deadline);
  void publish();
  void await(std::uint32_t rank, TimePoint deadline);
  void await_all(TimePoint deadline);
  void compare(const Description& description) const;
  template <typename Body>
  void in_chunks(const Description& description, TimePoint deadline, Body body);
  void reduce_chunk(std::byte* target, std::size_t count, DataType type, Operation operation) const;
  void reduce_in_segments(std::byte* target, std::size_t count, DataType type, Operation operation,
                          TimePoint deadline);
  std::string about_message(const Slot& slot, std::uint32_t from, std::uint64_t expected_bytes,
                            DataType expected) const;

  Segment segment_;
  const std::uint32_t rank_;
  const std::uint32_t world_size_;
  std::uint32_t step_ = 0;
};

}  // namespace aktis::collective
