#include "plasma/allocator.h"

#include <algorithm>
#include <cassert>

namespace aktis::plasma {

Allocator::Allocator(std::uint64_t capacity_bytes)
    : capacity_(capacity_bytes / kAlignmentBytes * kAlignmentBytes) {
  if (capacity_ == 0) return;
  first_ = last_ = make(0, capacity_);
  index(first_);
}

Block* Allocator::allocate(std::uint64_t size_bytes) {
  if (size_bytes > capacity_) return nullptr;
  const std::uint64_t size = footprint(size_bytes);
  if (auto warm = by_warm_.lower_bound({size, 0, nullptr}); warm != by_warm_.end()) {
    return take(std::get<2>(*warm), size);
  }
  auto fit = by_size_.lower_bound({size, 0, nullptr});
  return fit == by_size_.end() ? nullptr : take(std::get<2>(*fit), size);
}

Block* Allocator::reserve(std::uint64_t offset, std::uint64_t size_bytes) {
  Block* rest = last_;
  if (rest == nullptr || !rest->is_free || offset % kAlignmentBytes != 0) return nullptr;
  if (size_bytes > capacity_ || offset < rest->offset) return nullptr;
  const std::uint64_t size = footprint(size_bytes);
  if (size > rest->size || offset - rest->offset > rest->size - size) return nullptr;
  if (offset == rest->offset) return take(rest, size);
  // The gap in front stays free: take gap and range together, split, and give the gap back.
  Block* gap = take(rest, offset - rest->offset + size);
  Block* wanted = split(gap, offset - gap->offset);
  free(gap, false);
  return wanted;
}

Block* Allocator::split(Block* block, std::uint64_t first_bytes) {
  assert(!block->is_free && first_bytes > 0 && first_bytes < block->size);
  assert(first_bytes % kAlignmentBytes == 0);
  Block* second = make(block->offset + first_bytes, block->size - first_bytes);
  block->size = first_bytes;
  second->previous = block;
  second->next = block->next;
  (block->next != nullptr ? block->next->previous : last_) = second;
  block->next = second;
  return second;
}

void Allocator::free(Block* block, bool touched) {
  assert(!block->is_free);
  block->warm = touched ? block->size : 0;
  if (Block* left = block->previous; left != nullptr && left->is_free) {
    unindex(left);
    merge_with_next(left);
    block = left;
  }
  if (Block* right = block->next; right != nullptr && right->is_free) {
    unindex(right);
    merge_with_next(block);
  }
  index(block);
}

void Allocator::note_warm(std::uint64_t offset, std::uint64_t size_bytes) {
  if (by_size_.empty()) return;
  // Only the largest free range is ever populated ahead; had it been used meanwhile, the hint is void.
  Block* block = std::get<2>(*by_size_.rbegin());
  const std::uint64_t end = std::min(offset + size_bytes, block->offset + block->size);
  if (offset > block->offset + block->warm || end <= block->offset + block->warm) return;
  unindex(block);
  block->warm = end - block->offset;
  index(block);
}

void Allocator::note_all_free_cold() {
  by_warm_.clear();
  warm_free_bytes_ = 0;
  for (const Key& key : by_size_) std::get<2>(key)->warm = 0;
}

const Block* Allocator::largest_free() const {
  return by_size_.empty() ? nullptr : std::get<2>(*by_size_.rbegin());
}

std::uint64_t Allocator::largest_free_bytes() const {
  return by_size_.empty() ? 0 : std::get<0>(*by_size_.rbegin());
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> Allocator::free_ranges() const {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  ranges.reserve(by_size_.size());
  for (auto key = by_size_.rbegin(); key != by_size_.rend(); ++key) {
    ranges.emplace_back(std::get<1>(*key), std::get<0>(*key));
  }
  return ranges;
}

Block* Allocator::make(std::uint64_t offset, std::uint64_t size) {
  Block* block;
  if (spare_.empty()) {
    block = &blocks_.emplace_back();
  } else {
    block = spare_.back();
    spare_.pop_back();
    *block = Block{};
  }
  block->offset = offset;
  block->size = size;
  return block;
}

void Allocator::unlink(Block* block) {
  (block->previous != nullptr ? block->previous->next : first_) = block->next;
  (block->next != nullptr ? block->next->previous : last_) = block->previous;
  spare_.push_back(block);
}

void Allocator::index(Block* block) {
  block->is_free = true;
  free_bytes_ += block->size;
  warm_free_bytes_ += block->warm;
  by_size_.emplace(block->size, block->offset, block);
  if (block->warm > 0) by_warm_.emplace(block->warm, block->offset, block);
}

void Allocator::unindex(Block* block) {
  free_bytes_ -= block->size;
  warm_free_bytes_ -= block->warm;
  by_size_.erase({block->size, block->offset, block});
  if (block->warm > 0) by_warm_.erase({block->warm, block->offset, block});
}

Block* Allocator::take(Block* block, std::uint64_t size) {
  unindex(block);
  block->is_free = false;
  const std::uint64_t warm_rest = block->warm > size ? block->warm - size : 0;
  if (block->size > size) {
    Block* rest = split(block, size);
    rest->warm = warm_rest;
    index(rest);
  }
  return block;
}

void Allocator::merge_with_next(Block* block) {
  Block* right = block->next;
  if (block->warm == block->size) block->warm += right->warm;
  block->size += right->size;
  unlink(right);
}

const char* Allocator::validate() const {
  std::uint64_t position = 0, free_total = 0, warm_total = 0, free_count = 0, warm_count = 0;
  const Block* previous = nullptr;
  for (const Block* block = first_; block != nullptr; previous = block, block = block->next) {
    if (block->offset != position) return "gap or overlap between ranges";
    if (block->size == 0 || block->size % kAlignmentBytes != 0) return "empty or misaligned range";
    if (block->previous != previous) return "broken list";
    position += block->size;
    if (!block->is_free) continue;
    if (previous != nullptr && previous->is_free) return "free neighbours not coalesced";
    if (block->warm > block->size) return "more warm bytes than bytes";
    auto* handle = const_cast<Block*>(block);
    if (!by_size_.contains({block->size, block->offset, handle}))
      return "free range missing in the index by size";
    if (block->warm > 0 && !by_warm_.contains({block->warm, block->offset, handle})) {
      return "free range missing in the index of warm ranges";
    }
    free_total += block->size;
    warm_total += block->warm;
    ++free_count;
    warm_count += block->warm > 0;
  }
  if (previous != last_) return "wrong end of list";
  if (position != capacity_) return "ranges do not tile the arena";
  if (free_total != free_bytes_ || warm_total != warm_free_bytes_) return "wrong totals";
  if (free_count != by_size_.size() || warm_count != by_warm_.size()) return "stale entries in an index";
  return "";
}

}  // namespace aktis::plasma
