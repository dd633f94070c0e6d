// Which bytes of the arena are in use.
//
// The bookkeeping lives in the store's own memory, so that no client can corrupt it. Ranges form a list
// ordered by address; two ordered sets index the free ones: by size (best fit) and by how much of their
// beginning is known to be backed by pages (warm). Every operation is O(log n) in the number of free
// ranges. Not thread-safe: belongs to the store's thread.
//
// Invariants: ranges tile the arena without gap or overlap; two free ranges are never neighbours (freeing
// coalesces); every offset and size is a multiple of kAlignmentBytes; `warm` never exceeds the size.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <tuple>
#include <vector>

namespace aktis::plasma {

inline constexpr std::uint64_t kAlignmentBytes = 64;

constexpr std::uint64_t aligned(std::uint64_t bytes, std::uint64_t alignment = kAlignmentBytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// What an object of `size_bytes` takes in the arena; even an empty one has an address of its own.
constexpr std::uint64_t footprint(std::uint64_t size_bytes) {
  return size_bytes == 0 ? kAlignmentBytes : aligned(size_bytes);
}

// A range of the arena. Handed out as a handle that stays valid until it is given to free().
struct Block {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t warm = 0;  // free ranges: bytes at the beginning that need no page fault
  bool is_free = false;
  Block* previous = nullptr;  // neighbours by address
  Block* next = nullptr;
};

class Allocator {
 public:
  explicit Allocator(std::uint64_t capacity_bytes);  // rounded down to the alignment
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // A range of at least `size_bytes`; prefers the smallest warm run that fits, then the smallest free
  // range. Null when no free range is large enough.
  Block* allocate(std::uint64_t size_bytes);

  // Takes exactly this range, for a store that resumes. Ranges must be reserved in ascending order, before
  // anything is allocated. Null when it is misaligned, outside of the arena or already taken.
  Block* reserve(std::uint64_t offset, std::uint64_t size_bytes);

  // Cuts an allocated range in two; `block` keeps the first `first_bytes` (aligned, less than its size).
  Block* split(Block* block, std::uint64_t first_bytes);

  // `touched`: its pages were written, so the range is warm for whoever gets it next.
  void free(Block* block, bool touched);

  // Hints from whoever populates or discards pages; ranges that are not free any more are ignored.
  void note_warm(std::uint64_t offset, std::uint64_t size_bytes);
  void note_all_free_cold();

  // The largest free range; null when nothing is free. Its cold part is the one to populate next.
  const Block* largest_free() const;
  // Free ranges by descending size, for discarding their pages.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> free_ranges() const;

  std::uint64_t capacity_bytes() const { return capacity_; }
  std::uint64_t free_bytes() const { return free_bytes_; }
  std::uint64_t used_bytes() const { return capacity_ - free_bytes_; }
  std::uint64_t warm_free_bytes() const { return warm_free_bytes_; }
  std::uint64_t largest_free_bytes() const;

  // Checks every invariant in O(n); empty when all hold, else what is wrong. For tests.
  const char* validate() const;

 private:
  using Key = std::tuple<std::uint64_t, std::uint64_t, Block*>;  // size or warm bytes, offset

  Block* make(std::uint64_t offset, std::uint64_t size);
  void unlink(Block* block);  // out of the address list, back to the pool
  void index(Block* block);
  void unindex(Block* block);
  Block* take(Block* block, std::uint64_t size);
  void merge_with_next(Block* block);

  const std::uint64_t capacity_;
  std::uint64_t free_bytes_ = 0;
  std::uint64_t warm_free_bytes_ = 0;
  std::deque<Block> blocks_;   // stable addresses
  std::vector<Block*> spare_;  // unused nodes of blocks_
  Block* first_ = nullptr;
  Block* last_ = nullptr;
  std::set<Key> by_size_;
  std::set<Key> by_warm_;
};

}  // namespace aktis::plasma
