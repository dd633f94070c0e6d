// What a member of a collective group finds in the memory that it shares with another. Whatever the other
// wrote there, no call may write outside of its buffers, and each ends or says what is wrong.
//
// Input: which call, its type, operation and elements; how many steps and messages the other has published;
// then what it said of its call, and the slots of its messages. With the highest bit of the first byte
// instead: the beginning of the memory.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "collective/group.h"

namespace {

using namespace aktis::collective;

constexpr std::uint32_t kWorld = 2;
constexpr TimePoint kPast{};  // what has not come yet is too late

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  std::uint8_t byte() {
    std::uint8_t value = 0;
    fill(&value, 1);
    return value;
  }
  void fill(void* target, std::size_t size_bytes) {
    const std::size_t size = std::min(size_bytes, rest_.size());
    if (size != 0) std::memcpy(target, rest_.data(), size);
    rest_ = rest_.subspan(size);
  }

 private:
  std::span<const std::uint8_t> rest_;
};

void call(Group& group, std::uint8_t which, DataType type, Operation operation, std::size_t count) {
  std::vector<std::byte> data(count * size_of(type)), other(data.size());
  std::byte* const both[] = {data.data(), other.data()};
  const std::byte* const inputs[] = {data.data(), other.data()};
  switch (which % 8) {
    case 0:
      return group.barrier(kPast);
    case 1:
      return group.all_reduce(data.data(), count, type, operation, kPast);
    case 2:
      return group.reduce(data.data(), count, type, operation, 0, kPast);
    case 3:
      return group.broadcast(data.data(), count, type, 1, kPast);
    case 4:
      return group.all_gather(data.data(), both, count, type, kPast);
    case 5:
      return group.reduce_scatter(inputs, other.data(), count, type, operation, kPast);
    case 6:
      return group.send(data.data(), count, type, 1, kPast);
    default:
      return group.receive(data.data(), count, type, 1, kPast);
  }
}

// Another memory than a group of this size has is refused.
void begin_otherwise(int memory, Input input) {
  std::uint8_t header[16];
  if (::pread(memory, header, sizeof header, 0) != sizeof header) std::abort();
  const std::vector<std::uint8_t> before(header, header + sizeof header);
  input.fill(header, sizeof header);
  if (::pwrite(memory, header, sizeof header, 0) != sizeof header) std::abort();
  try {
    const Segment segment(::dup(memory), 0, kWorld, nullptr);
    if (!std::equal(before.begin(), before.end(), header)) std::abort();
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const int memory = Segment::create(kWorld);
  const std::uint8_t which = input.byte();
  if (which >= 0x80) {
    begin_otherwise(memory, input);
    ::close(memory);
    return 0;
  }
  const auto type = static_cast<DataType>(input.byte() % kDataTypes);
  const auto operation = static_cast<Operation>(input.byte() % kOperations);
  const std::size_t count = std::size_t{input.byte()} * input.byte();
  Segment other(::dup(memory), 1, kWorld, nullptr);
  Group group(memory, 0, kWorld, nullptr);
  other.member(1).progress.value = input.byte();
  other.channel(1, 0).sent.value = input.byte() % (kSlots + 1);
  Description said;
  input.fill(&said, sizeof said);
  other.member(1).said[0] = other.member(1).said[1] = said;
  input.fill(other.channel(1, 0).slots, sizeof(Slot) * kSlots);
  try {
    call(group, which, type, operation, count);
  } catch (const std::invalid_argument&) {
  } catch (const GroupFailed&) {
  }
  return 0;
}
