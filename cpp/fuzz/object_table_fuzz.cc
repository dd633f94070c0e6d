// What a store may find in the table of the one before it: slots with any fields under a right checksum,
// slots that were torn, another header. Whatever it takes over must lie within the arena.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <stdexcept>

#include "plasma/allocator.h"
#include "plasma/object_table.h"

namespace {

using namespace aktis::plasma;

constexpr std::uint64_t kArenaBytes = 1 << 16;
constexpr std::uint64_t kSlotsAt = 4096;

void check(const Slot& slot) {
  const bool known = slot.state != ObjectState::kFree && static_cast<int>(slot.state) < kObjectStateCount;
  const bool inside = slot.size_bytes <= kArenaBytes && slot.offset <= kArenaBytes - slot.size_bytes;
  if (!known || !inside || slot.offset % kAlignmentBytes != 0 || slot.id.is_nil()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ObjectTable table(kArenaBytes);
  std::span<const std::uint8_t> input(data, size);
  // First the header as it is found, or not changed at all; then slots, each with a byte that says how it
  // came.
  const bool other_header = !input.empty() && (input[0] & 1) != 0;
  if (!input.empty()) input = input.subspan(1);
  for (std::uint64_t index = 0; input.size() > sizeof(Slot) && index < 64; ++index) {
    const bool torn = (input[0] & 1) != 0;
    Slot slot;
    std::memcpy(static_cast<void*>(&slot), input.data() + 1, sizeof(slot));
    input = input.subspan(1 + sizeof(slot));
    if (table.insert(slot) != index) std::abort();
    const auto at = static_cast<off_t>(kSlotsAt + index * sizeof(slot));
    if (torn && ::pwrite(table.fd(), &slot, sizeof(slot), at) != sizeof(slot)) std::abort();
  }
  if (other_header && ::pwrite(table.fd(), input.data(), std::min<std::size_t>(input.size(), 64), 0) < 0) {
    std::abort();
  }
  try {
    ObjectTable next(aktis::wire::UniqueFd(::dup(table.fd())), true);
    next.recover([](std::uint64_t, const Slot& slot) { check(slot); });
    // What was not taken over is gone: a second look finds the same.
    if (next.recover([](std::uint64_t, const Slot& slot) { check(slot); }) != 0) std::abort();
  } catch (const std::runtime_error&) {
    if (!other_header) std::abort();
  }
  return 0;
}
