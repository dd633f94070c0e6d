#include "plasma/warmth.h"

#include <algorithm>

namespace aktis::plasma {
namespace {

constexpr auto kSampleInterval = std::chrono::milliseconds(250);
constexpr double kReserveSeconds = 0.5;

}  // namespace

void Warmth::observe(std::uint64_t allocated_bytes, wire::TimePoint active_at, wire::TimePoint now) {
  if (active_at != active_at_) {
    active_at_ = active_at;
    ever_active_ = true;
    swept_ = false;
    sweeping_.clear();
  }
  const auto elapsed = now - sampled_at_;
  if (elapsed < kSampleInterval) return;
  const double seconds = std::chrono::duration<double>(elapsed).count();
  const double latest = static_cast<double>(allocated_bytes - sampled_bytes_) / seconds;
  bytes_per_second_ = (bytes_per_second_ + latest) / 2;
  sampled_at_ = now;
  sampled_bytes_ = allocated_bytes;
}

std::uint64_t Warmth::reserve_target_bytes(wire::TimePoint now) const {
  if (options_.populate_all) return ~std::uint64_t{0};
  if (!ever_active_ || is_idle(now)) return 0;
  const auto hot = static_cast<std::uint64_t>(bytes_per_second_ * kReserveSeconds);
  return std::clamp(hot, options_.reserve_bytes,
                    std::max(options_.max_reserve_bytes, options_.reserve_bytes));
}

std::optional<PageRange> Warmth::to_populate(const Allocator& allocator, wire::TimePoint now) const {
  const std::uint64_t target = reserve_target_bytes(now);
  const std::uint64_t warm = allocator.warm_free_bytes();
  const Block* block = allocator.largest_free();
  if (warm >= target || block == nullptr || block->warm == block->size) return std::nullopt;
  const std::uint64_t length = std::min({options_.step_bytes, block->size - block->warm, target - warm});
  return PageRange{block->offset + block->warm, length};
}

std::optional<PageRange> Warmth::to_discard(Allocator& allocator, wire::TimePoint now) {
  if (options_.populate_all || !ever_active_ || !is_idle(now)) return std::nullopt;
  if (sweeping_.empty()) {
    if (swept_ && allocator.warm_free_bytes() == 0) return std::nullopt;
    sweeping_ = allocator.free_ranges();
    allocator.note_all_free_cold();
    swept_ = true;
    if (sweeping_.empty()) return std::nullopt;
  }
  auto& [offset, length] = sweeping_.back();
  const PageRange slice{offset, std::min(length, options_.step_bytes)};
  offset += slice.length;
  length -= slice.length;
  if (length == 0) sweeping_.pop_back();
  return slice;
}

std::optional<wire::TimePoint> Warmth::next_deadline(const Allocator& allocator) const {
  if (options_.populate_all || !ever_active_) return std::nullopt;
  if (!swept_ || !sweeping_.empty() || allocator.warm_free_bytes() > 0) return active_at_ + options_.idle;
  return std::nullopt;
}

}  // namespace aktis::plasma
