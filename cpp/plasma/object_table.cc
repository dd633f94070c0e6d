#include "plasma/object_table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <stdexcept>
#include <system_error>

#include "plasma/allocator.h"

namespace aktis::plasma {
namespace {

constexpr std::uint64_t kHeaderBytes = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::uint64_t checksum_of(const Slot& slot, std::uint64_t index) {
  constexpr std::size_t kSkip = sizeof(slot.checksum);
  return XXH3_64bits_withSeed(reinterpret_cast<const char*>(&slot) + kSkip, sizeof(slot) - kSkip, index) | 1;
}

std::uint64_t checksum_of(const TableHeader& header) {
  constexpr std::size_t kSkip = sizeof(header.checksum);
  return XXH3_64bits(reinterpret_cast<const char*>(&header) + kSkip,
                     offsetof(TableHeader, high_water) - kSkip);
}

bool is_valid(const Slot& slot, std::uint64_t index, std::uint64_t arena_bytes) {
  if (slot.checksum != checksum_of(slot, index)) return false;
  const auto state = static_cast<std::uint8_t>(slot.state);
  if (state == 0 || state >= kObjectStateCount || slot.id.is_nil()) return false;
  if (slot.size_bytes > arena_bytes || slot.offset > arena_bytes - slot.size_bytes) return false;
  return slot.offset % kAlignmentBytes == 0;
}

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), std::string("object table: ") + what);
}

void check(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error("object table: " + what);
}

}  // namespace

ObjectTable::ObjectTable(std::uint64_t arena_bytes) {
  TableHeader header;
  header.slot_bytes = sizeof(Slot);
  header.slot_count = std::max<std::uint64_t>(arena_bytes / kAlignmentBytes, 1);
  header.arena_bytes = arena_bytes;
  header.epoch = 1;
  header.checksum = checksum_of(header);
  const std::uint64_t length = kHeaderBytes + header.slot_count * sizeof(Slot);
  fd_ = wire::UniqueFd(::memfd_create("aktis-plasma-table", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd_) fail("memfd_create");
  if (::ftruncate(fd_.get(), static_cast<off_t>(length)) != 0) fail("ftruncate");
  if (::fcntl(fd_.get(), F_ADD_SEALS, kSeals) != 0) fail("F_ADD_SEALS");
  map(length, true);
  *header_ = header;
}

ObjectTable::ObjectTable(wire::UniqueFd inherited, bool writable) : ObjectTable(std::move(inherited)) {
  struct stat status{};
  if (::fstat(fd_.get(), &status) != 0) fail("fstat of the inherited descriptor");
  const auto length = static_cast<std::uint64_t>(status.st_size);
  check(length >= kHeaderBytes, "shorter than its header");
  map(length, writable);
  const TableHeader header = *header_;
  check(header.magic == kTableMagic, "wrong magic: not an object table");
  check(header.version == kTableVersion,
        "version " + std::to_string(header.version) + ", this store reads " + std::to_string(kTableVersion));
  check(header.checksum == checksum_of(header), "header does not match its checksum");
  check(header.slot_bytes == sizeof(Slot), "slots of another size");
  check(header.slot_count <= (length - kHeaderBytes) / sizeof(Slot), "more slots than the file holds");
  check(header.high_water <= header.slot_count, "high-water mark beyond the last slot");
}

ObjectTable::~ObjectTable() {
  if (header_ != nullptr) ::munmap(header_, length_);
}

void ObjectTable::map(std::uint64_t length, bool writable) {
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* data = ::mmap(nullptr, length, protection, MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
  if (data == MAP_FAILED) fail("mmap");
  length_ = length;
  writable_ = writable;
  header_ = static_cast<TableHeader*>(data);
  slots_ = reinterpret_cast<Slot*>(static_cast<std::byte*>(data) + kHeaderBytes);
}

void ObjectTable::next_epoch() {
  header_->epoch += 1;
  header_->checksum = checksum_of(*header_);
}

std::uint64_t ObjectTable::insert(const Slot& slot) {
  std::uint64_t index;
  if (unused_.empty()) {
    index = header_->high_water;
    check(index < header_->slot_count, "more objects than slots");
    header_->high_water = index + 1;
  } else {
    std::pop_heap(unused_.begin(), unused_.end(), std::greater<>());
    index = unused_.back();
    unused_.pop_back();
  }
  write(index, slot);
  return index;
}

void ObjectTable::update(std::uint64_t index, const Slot& slot) {
  assert(slots_[index].state == slot.state || may_follow(slots_[index].state, slot.state));
  write(index, slot);
}

void ObjectTable::erase(std::uint64_t index) {
  write(index, Slot{});
  unused_.push_back(index);
  std::push_heap(unused_.begin(), unused_.end(), std::greater<>());
}

void ObjectTable::write(std::uint64_t index, Slot slot) {
  Slot& place = slots_[index];
  const std::uint64_t checksum = slot.state == ObjectState::kFree ? 0 : checksum_of(slot, index);
  slot.checksum = 0;
  // A kill between two stores must leave either the old checksum with all old fields, or none. The process
  // dies, not the machine, so program order is enough and only the compiler must be held back.
  place.checksum = 0;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  place = slot;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  place.checksum = checksum;
}

std::uint64_t ObjectTable::recover(const std::function<void(std::uint64_t, const Slot&)>& visit) {
  std::uint64_t corrupt = 0;
  unused_.clear();
  for (std::uint64_t index = 0; index < header_->high_water; ++index) {
    const Slot slot = slots_[index];
    if (slot.checksum != 0 && is_valid(slot, index, header_->arena_bytes)) {
      visit(index, slot);
      continue;
    }
    const bool was_used = slot.checksum != 0 || slot.state != ObjectState::kFree;
    corrupt += was_used;
    if (was_used && writable_) slots_[index] = Slot{};
    unused_.push_back(index);
  }
  std::make_heap(unused_.begin(), unused_.end(), std::greater<>());
  return corrupt;
}

}  // namespace aktis::plasma
