#include "plasma/slab_cutter.h"

#include <utility>

#include "plasma/allocator.h"

namespace aktis::plasma {
namespace {

constexpr auto kRefusedPause = std::chrono::milliseconds(20);

}  // namespace

std::optional<SlabCutter::Cut> SlabCutter::cut_from(std::optional<Lease>& lease, std::uint64_t bytes) {
  if (!lease || lease->size - lease->used < bytes) return std::nullopt;
  Cut cut{lease->slab, lease->offset + lease->used};
  lease->used += bytes;
  ++lease->unsettled;
  return cut;
}

std::optional<SlabCutter::Cut> SlabCutter::cut(std::uint64_t size_bytes, OpWriter& ops) {
  const std::uint64_t bytes = footprint(size_bytes);
  if (auto found = cut_from(current_, bytes)) return found;
  if (!ready_) return std::nullopt;
  retire(current_, ops);
  current_ = std::exchange(ready_, std::nullopt);
  return cut_from(current_, bytes);
}

void SlabCutter::settle(const Cut& cut, OpWriter& ops) {
  if (current_ && current_->slab == cut.slab) {
    --current_->unsettled;
    return;
  }
  auto found = retired_.find(cut.slab);
  if (found == retired_.end() || --found->second.unsettled > 0) return;
  ops.slab_close(cut.slab);
  retired_.erase(found);
}

std::optional<std::uint64_t> SlabCutter::take_request(std::uint64_t wanted_bytes, wire::TimePoint now) {
  const std::uint64_t bytes = footprint(wanted_bytes);
  const std::uint64_t left = current_ ? current_->size - current_->used : 0;
  const bool running_low = !current_ || left < current_->size / 2 || left < bytes;
  if (asked_ || ready_ || !running_low || now < refused_until_) return std::nullopt;
  asked_ = true;
  return wanted_bytes;
}

void SlabCutter::granted(const SlabGrant& grant, wire::TimePoint now, OpWriter& ops) {
  asked_ = false;
  if (grant.size_bytes == 0) {
    refused_until_ = now + kRefusedPause;
    return;
  }
  retire(ready_, ops);
  ready_ = Lease{grant.slab, grant.offset, grant.size_bytes, 0, 0};
}

void SlabCutter::reclaim(OpWriter& ops) {
  retire(current_, ops);
  retire(ready_, ops);
}

void SlabCutter::retire(std::optional<Lease>& lease, OpWriter& ops) {
  if (!lease) return;
  if (lease->unsettled == 0) {
    ops.slab_close(lease->slab);
  } else {
    if (lease->used < lease->size) ops.slab_trim(lease->slab, lease->used);
    retired_.emplace(lease->slab, *lease);
  }
  lease.reset();
}

}  // namespace aktis::plasma
