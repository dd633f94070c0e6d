#include "collective/group.h"

#include <algorithm>
#include <cstring>

namespace aktis::collective {
namespace {

// With so many members it pays that each reduces a part for all, although that takes a step more.
constexpr std::uint32_t kSegmentedFrom = 4;
constexpr std::size_t kSegmentedBytes = 32 * 1024;

// An empty array has no address.
void copy_bytes(std::byte* target, const std::byte* source, std::size_t size_bytes) {
  if (size_bytes != 0) std::memcpy(target, source, size_bytes);
}

}  // namespace

Group::Group(int descriptor, std::uint32_t rank, std::uint32_t world_size, Segment::Interrupt interrupt)
    : segment_(descriptor, rank, world_size, std::move(interrupt)), rank_(rank), world_size_(world_size) {}

// ---- steps ----

std::byte* Group::begin_step(TimePoint deadline) {
  segment_.check_unbroken();
  await_all(deadline);
  ++step_;
  return segment_.buffer(rank_, step_);
}

void Group::publish() { segment_.member(rank_).progress.ring(step_); }

void Group::await(std::uint32_t rank, TimePoint deadline) {
  segment_.await(segment_.member(rank).progress, step_, rank, deadline);
}

void Group::await_all(TimePoint deadline) {
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    if (other != rank_) await(other, deadline);
  }
}

void Group::compare(const Description& description) const {
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    const Description theirs = segment_.member(other).said[step_ & 1];
    if (theirs == description) continue;
    throw std::invalid_argument("the members of the group call different things: rank " +
                                std::to_string(rank_) + " " + text_of(description) + ", rank " +
                                std::to_string(other) + " " + text_of(theirs));
  }
}

// Calls body(buffer, offset in bytes, elements, publish) for every chunk; at least once. The body fills the
// buffer and calls publish(wait_for_all), after which it may read the others' buffers of this step.
template <typename Body>
void Group::in_chunks(const Description& description, TimePoint deadline, Body body) {
  const std::size_t size = size_of(description.type);
  const std::size_t per_chunk = kChunkBytes / size;
  std::size_t done = 0;
  bool first = true;
  do {
    const std::size_t elements = std::min<std::size_t>(per_chunk, description.count - done);
    std::byte* const buffer = begin_step(deadline);
    if (first) segment_.member(rank_).said[step_ & 1] = description;
    body(buffer, done * size, elements, [&](bool wait_for_all) {
      publish();
      if (first || wait_for_all) await_all(deadline);
      if (first) compare(description);
      first = false;
    });
    done += elements;
  } while (done < description.count);
}

// ---- collective operations ----

void Group::barrier(TimePoint deadline) {
  in_chunks({Call::kBarrier}, deadline, [](auto*, auto, auto, auto publish) { publish(true); });
}

void Group::all_reduce(std::byte* data, std::size_t count, DataType type, Operation operation,
                       TimePoint deadline) {
  const std::size_t size = size_of(type);
  in_chunks({Call::kAllReduce, type, operation, 0, count}, deadline,
            [&](std::byte* buffer, std::size_t offset, std::size_t elements, auto publish) {
              copy_bytes(buffer, data + offset, elements * size);
              publish(true);
              if (world_size_ >= kSegmentedFrom && elements * size >= kSegmentedBytes) {
                reduce_in_segments(data + offset, elements, type, operation, deadline);
              } else {
                reduce_chunk(data + offset, elements, type, operation);
              }
            });
}

void Group::reduce(std::byte* data, std::size_t count, DataType type, Operation operation, std::uint32_t root,
                   TimePoint deadline) {
  const std::size_t size = size_of(type);
  in_chunks({Call::kReduce, type, operation, root, count}, deadline,
            [&](std::byte* buffer, std::size_t offset, std::size_t elements, auto publish) {
              copy_bytes(buffer, data + offset, elements * size);
              publish(rank_ == root);
              if (rank_ == root) reduce_chunk(data + offset, elements, type, operation);
            });
}

void Group::broadcast(std::byte* data, std::size_t count, DataType type, std::uint32_t root,
                      TimePoint deadline) {
  const std::size_t size = size_of(type);
  in_chunks({Call::kBroadcast, type, Operation::kSum, root, count}, deadline,
            [&](std::byte* buffer, std::size_t offset, std::size_t elements, auto publish) {
              if (rank_ == root) copy_bytes(buffer, data + offset, elements * size);
              publish(false);
              if (rank_ == root) return;
              await(root, deadline);
              copy_bytes(data + offset, segment_.buffer(root, step_), elements * size);
            });
}

void Group::all_gather(const std::byte* data, std::span<std::byte* const> outputs, std::size_t count,
                       DataType type, TimePoint deadline) {
  const std::size_t size = size_of(type);
  in_chunks({Call::kAllGather, type, Operation::kSum, 0, count}, deadline,
            [&](std::byte* buffer, std::size_t offset, std::size_t elements, auto publish) {
              copy_bytes(buffer, data + offset, elements * size);
              publish(true);
              for (std::uint32_t other = 0; other < world_size_; ++other) {
                copy_bytes(outputs[other] + offset, segment_.buffer(other, step_), elements * size);
              }
            });
}

void Group::reduce_scatter(std::span<const std::byte* const> inputs, std::byte* output, std::size_t count,
                           DataType type, Operation operation, TimePoint deadline) {
  const std::size_t size = size_of(type);
  for (std::uint32_t part = 0; part < world_size_; ++part) {
    in_chunks({Call::kReduceScatter, type, operation, 0, count}, deadline,
              [&](std::byte* buffer, std::size_t offset, std::size_t elements, auto publish) {
                copy_bytes(buffer, inputs[part] + offset, elements * size);
                publish(rank_ == part);
                if (rank_ != part) return;
                copy_bytes(output + offset, buffer, elements * size);
                reduce_chunk(output + offset, elements, type, operation);
              });
  }
}

// `target` holds what lies in our own buffer; everybody's is published.
void Group::reduce_chunk(std::byte* target, std::size_t count, DataType type, Operation operation) const {
  if (rank_ > 1) copy_bytes(target, segment_.buffer(0, step_), count * size_of(type));
  // The first two may change places: the operations are commutative.
  const std::uint32_t start = rank_ == 1 ? 0 : 1;
  if (start == 0) combine(type, operation, target, segment_.buffer(0, step_), count);
  for (std::uint32_t other = start == 0 ? 2 : 1; other < world_size_; ++other) {
    combine(type, operation, target, segment_.buffer(other, step_), count);
  }
}

// Each member reduces its part of the chunk into its buffer of the next step, from which all copy it.
void Group::reduce_in_segments(std::byte* target, std::size_t count, DataType type, Operation operation,
                               TimePoint deadline) {
  const std::size_t size = size_of(type);
  const auto start = [&](std::uint32_t part) { return count * part / world_size_; };
  const std::uint32_t inputs = step_;
  std::byte* const mine = begin_step(deadline);
  const std::size_t offset = start(rank_) * size;
  const std::size_t elements = start(rank_ + 1) - start(rank_);
  copy_bytes(mine + offset, segment_.buffer(0, inputs) + offset, elements * size);
  for (std::uint32_t other = 1; other < world_size_; ++other) {
    combine(type, operation, mine + offset, segment_.buffer(other, inputs) + offset, elements);
  }
  publish();
  for (std::uint32_t turn = 0; turn < world_size_; ++turn) {
    const std::uint32_t other = (rank_ + turn) % world_size_;
    if (other != rank_) await(other, deadline);
    const std::size_t from = start(other) * size;
    copy_bytes(target + from, segment_.buffer(other, step_) + from, start(other + 1) * size - from);
  }
}

// ---- messages between two ----

void Group::send(const std::byte* data, std::size_t count, DataType type, std::uint32_t to,
                 TimePoint deadline) {
  segment_.check_unbroken();
  Channel& channel = segment_.channel(rank_, to);
  const std::size_t size_bytes = count * size_of(type);
  std::uint32_t sent = channel.sent.value.load(std::memory_order_relaxed);
  std::size_t offset = 0;
  do {
    segment_.await(channel.taken, sent + 1 - kSlots, to, deadline);
    const std::size_t bytes = std::min(kSlotBytes, size_bytes - offset);
    channel.slots[sent % kSlots] = {size_bytes, static_cast<std::uint32_t>(bytes), type};
    copy_bytes(segment_.slot(rank_, to, sent), data + offset, bytes);
    channel.sent.ring(++sent);
    offset += bytes;
  } while (offset < size_bytes);
}

void Group::receive(std::byte* data, std::size_t count, DataType type, std::uint32_t from,
                    TimePoint deadline) {
  segment_.check_unbroken();
  Channel& channel = segment_.channel(from, rank_);
  const std::uint64_t expected_bytes = count * size_of(type);
  std::uint32_t taken = channel.taken.value.load(std::memory_order_relaxed);
  std::string problem;
  std::uint64_t left = 0;
  std::size_t offset = 0;
  do {
    segment_.await(channel.sent, taken + 1, from, deadline);
    const Slot slot = channel.slots[taken % kSlots];
    if (offset == 0) {
      left = slot.message_bytes;
      if (slot.message_bytes != expected_bytes || slot.type != type) {
        problem = about_message(slot, from, expected_bytes, type);
      }
    }
    const std::size_t bytes = std::min<std::uint64_t>(left, kSlotBytes);
    if (problem.empty()) copy_bytes(data + offset, segment_.slot(from, rank_, taken), bytes);
    channel.taken.ring(++taken);
    left -= bytes;
    offset += bytes;
  } while (left > 0);
  if (!problem.empty()) throw std::invalid_argument(problem);
}

std::string Group::about_message(const Slot& slot, std::uint32_t from, std::uint64_t expected_bytes,
                                 DataType expected) const {
  const auto text = [](std::uint64_t bytes, DataType type) {
    return std::to_string(bytes / size_of(type)) + " " + std::string(name_of(type));
  };
  if (static_cast<std::size_t>(slot.type) >= kDataTypes) return "the message is not one of this version's";
  return "rank " + std::to_string(from) + " has sent " + text(slot.message_bytes, slot.type) + ", rank " +
         std::to_string(rank_) + " receives " + text(expected_bytes, expected) + ": that message is lost";
}

}  // namespace aktis::collective
