#include "plasma/session.h"

#include <algorithm>
#include <bit>

namespace aktis::plasma {

void Session::add_slab(std::uint64_t slab, Block* block) {
  slabs.emplace(slab, Slab{block->offset, block->size});
  pieces.emplace(block->offset, Piece{block, slab});
  slab_bytes += block->size;
}

Block* Session::carve(Allocator& allocator, std::uint64_t begin, std::uint64_t length) {
  auto place = pieces.upper_bound(begin);
  if (place == pieces.begin()) return nullptr;
  --place;
  Block* block = place->second.block;
  const std::uint64_t slab = place->second.slab;
  const std::uint64_t skipped = begin - block->offset;
  if (begin % kAlignmentBytes != 0 || skipped >= block->size || length > block->size - skipped)
    return nullptr;
  auto node = pieces.extract(place);
  if (skipped > 0) {
    Block* wanted = allocator.split(block, skipped);
    pieces.insert(std::move(node));
    block = wanted;
  }
  if (block->size > length) {
    Block* rest = allocator.split(block, length);
    if (node.empty()) {
      pieces.emplace(rest->offset, Piece{rest, slab});
    } else {  // the usual case, objects sealed in the order they were cut: no allocation
      node.key() = rest->offset;
      node.mapped().block = rest;
      pieces.insert(std::move(node));
    }
  }
  slab_bytes -= block->size;
  return block;
}

std::vector<Block*> Session::cut_off(Allocator& allocator, std::uint64_t slab, std::uint64_t used_bytes) {
  const Slab& range = slabs.at(slab);
  const std::uint64_t from = range.offset + used_bytes;
  auto place = pieces.lower_bound(from);
  if (place != pieces.begin()) {
    Piece before = std::prev(place)->second;
    if (before.slab == slab && from - before.block->offset < before.block->size) {
      Block* rest = allocator.split(before.block, from - before.block->offset);
      place = pieces.emplace(rest->offset, Piece{rest, slab}).first;
    }
  }
  std::vector<Block*> blocks;
  while (place != pieces.end() && place->first < range.offset + range.size) {
    if (place->second.slab != slab) {
      ++place;
      continue;
    }
    slab_bytes -= place->second.block->size;
    blocks.push_back(place->second.block);
    place = pieces.erase(place);
  }
  return blocks;
}

std::uint64_t Session::next_lease_bytes(std::uint64_t min_bytes, const SlabPolicy& policy,
                                        wire::TimePoint now) {
  if (slab_lease_bytes == 0) {
    slab_lease_bytes = policy.min_bytes;
  } else if (now - slab_leased_at < policy.hot) {
    slab_lease_bytes = std::min(slab_lease_bytes * 2, policy.max_bytes);
  } else if (now - slab_leased_at > policy.cold) {
    slab_lease_bytes = std::max(slab_lease_bytes / 2, policy.min_bytes);
  }
  slab_leased_at = now;
  // Room for a few objects of the size that is being made, or each would need a lease of its own.
  const std::uint64_t several = std::bit_ceil(footprint(min_bytes)) * 4;
  return std::min(std::max(slab_lease_bytes, several), policy.max_bytes);
}

}  // namespace aktis::plasma
