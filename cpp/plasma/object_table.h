// What the store must still know after it was killed: one slot per object, in a memfd of its own.
//
// Only the store maps it writable. The descriptor outlives the process (the supervisor or systemd holds it);
// a new store validates every slot and resumes. Each slot carries a checksum that is cleared before and
// written after its fields, so that a slot which a killed store was writing is recognised as torn.
//
// Format, little-endian: a header page, then `slot_count` slots. There are as many slots as objects of the
// smallest size fit in the arena, so slots can never run out before bytes do; unused ones are holes in the
// file and take no memory. Slots are taken lowest first, and only slots below `high_water` were ever used.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plasma/object_state.h"
#include "wire/ids.h"
#include "wire/socket.h"

namespace aktis::plasma {

inline constexpr std::uint64_t kTableMagic = 0x454c424154544b41ull;  // "AKTTABLE"
inline constexpr std::uint32_t kTableVersion = 1;

struct TableHeader {
  std::uint64_t checksum = 0;  // of the fields up to high_water
  std::uint64_t magic = kTableMagic;
  std::uint32_t version = kTableVersion;
  std::uint32_t slot_bytes = 0;
  std::uint64_t slot_count = 0;
  std::uint64_t arena_bytes = 0;
  std::uint64_t epoch = 0;       // grows by one with every store that resumes from this table
  std::uint64_t high_water = 0;  // not in the checksum: changes with use
};

enum SlotFlags : std::uint8_t {
  kSlotPrimary = 1,  // the copy made where the object was created: never evicted, only deleted by its owner
};

struct Slot {
  std::uint64_t checksum = 0;  // of all that follows, seeded with the slot's index
  ObjectState state = ObjectState::kFree;
  std::uint8_t flags = 0;
  std::uint16_t reserved = 0;
  std::uint32_t creator_pid = 0;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t created_unix_ns = 0;
  ObjectId id;
  std::uint8_t padding[4] = {};
  WorkerId owner;
  std::uint64_t spill_location = 0;  // reserved for spilled copies: file and position
  std::uint64_t spill_extent = 0;
};
static_assert(sizeof(Slot) == 96 && std::is_trivially_copyable_v<Slot>);

class ObjectTable {
 public:
  // A new table for an arena of this size. Throws std::system_error.
  explicit ObjectTable(std::uint64_t arena_bytes);
  // Takes over a table. Throws std::runtime_error that says what does not fit (magic, version, sizes,
  // checksum). `writable` false: for inspection by another process.
  ObjectTable(wire::UniqueFd inherited, bool writable);
  ~ObjectTable();
  ObjectTable(const ObjectTable&) = delete;
  ObjectTable& operator=(const ObjectTable&) = delete;

  int fd() const { return fd_.get(); }
  const TableHeader& header() const { return *header_; }
  void next_epoch();

  // Writes `slot` to the lowest unused place; returns its index.
  std::uint64_t insert(const Slot& slot);
  // Rewrites a used slot; the state must be allowed to follow the present one (or be the same).
  void update(std::uint64_t index, const Slot& slot);
  void erase(std::uint64_t index);
  Slot at(std::uint64_t index) const { return slots_[index]; }

  // Visits every used slot that is valid; returns how many were torn or corrupt (those are cleared when
  // the table is writable).
  std::uint64_t recover(const std::function<void(std::uint64_t index, const Slot&)>& visit);

  std::uint64_t used_slots() const { return header_->high_water - unused_.size(); }

 private:
  // First for the others: what they throw after it leaves the destructor to unmap.
  explicit ObjectTable(wire::UniqueFd fd) : fd_(std::move(fd)) {}
  void map(std::uint64_t length, bool writable);
  void write(std::uint64_t index, Slot slot);

  wire::UniqueFd fd_;
  std::uint64_t length_ = 0;
  bool writable_ = true;
  TableHeader* header_ = nullptr;
  Slot* slots_ = nullptr;
  std::vector<std::uint64_t> unused_;  // min-heap of slots below the high-water mark
};

}  // namespace aktis::plasma
