// Which pages of the arena should be backed by memory before anybody needs them, and which be given back.
//
// A policy without I/O. While clients allocate, some free memory is kept warm: a fixed reserve, or what
// they allocate in half a second when that is more. After a time without allocation everything free is
// given back, in slices, so that an idle store is small. Belongs to the store's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "plasma/allocator.h"
#include "wire/reactor.h"

namespace aktis::plasma {

struct WarmthOptions {
  std::uint64_t reserve_bytes = 64u << 20;
  std::uint64_t max_reserve_bytes = 1u << 30;
  std::uint64_t step_bytes = 4u << 20;     // populated or discarded in one go
  std::chrono::milliseconds idle{10'000};  // without allocation for so long: pages are given back
  bool populate_all = false;               // everything at start, and nothing is ever given back
};

struct PageRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

class Warmth {
 public:
  explicit Warmth(WarmthOptions options) : options_(options) {}

  // Tells how much has been allocated ever and when last; call before the others.
  void observe(std::uint64_t allocated_bytes, wire::TimePoint active_at, wire::TimePoint now);

  // The next range to populate; none when the reserve is full or nothing cold is free.
  std::optional<PageRange> to_populate(const Allocator& allocator, wire::TimePoint now) const;

  // The next range to give back; only while idle. Marks the allocator's free memory as cold. The range
  // is free now: it must be discarded before anything is allocated.
  std::optional<PageRange> to_discard(Allocator& allocator, wire::TimePoint now);

  // When to ask again although nothing happens.
  std::optional<wire::TimePoint> next_deadline(const Allocator& allocator) const;

  std::uint64_t reserve_target_bytes(wire::TimePoint now) const;

 private:
  bool is_idle(wire::TimePoint now) const { return now - active_at_ >= options_.idle; }

  const WarmthOptions options_;
  wire::TimePoint active_at_{};
  wire::TimePoint sampled_at_{};
  std::uint64_t sampled_bytes_ = 0;
  double bytes_per_second_ = 0;
  bool ever_active_ = false;
  bool swept_ = true;  // all that was free when it became idle has been given back
  std::vector<std::pair<std::uint64_t, std::uint64_t>> sweeping_;  // offset, length; last first
};

}  // namespace aktis::plasma
