#include <gtest/gtest.h>

#include "plasma/warmth.h"

namespace aktis::plasma {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

class WarmthTest : public ::testing::Test {
 protected:
  WarmthOptions options() {
    WarmthOptions options;
    options.reserve_bytes = 8 * kMiB;
    options.max_reserve_bytes = 64 * kMiB;
    options.step_bytes = kMiB;
    options.idle = std::chrono::milliseconds(1000);
    return options;
  }
  wire::TimePoint at(int ms) const { return start + std::chrono::milliseconds(ms); }
  // Populates as long as the policy asks for it; returns the bytes.
  std::uint64_t populate(Warmth& warmth, Allocator& allocator, wire::TimePoint now) {
    std::uint64_t total = 0;
    while (auto range = warmth.to_populate(allocator, now)) {
      allocator.note_warm(range->offset, range->length);
      total += range->length;
    }
    return total;
  }
  const wire::TimePoint start = wire::TimePoint{} + std::chrono::hours(1);
};

TEST_F(WarmthTest, NothingIsTouchedBeforeSomebodyAllocates) {
  Warmth warmth(options());
  Allocator allocator(256 * kMiB);
  warmth.observe(0, {}, at(0));
  EXPECT_FALSE(warmth.to_populate(allocator, at(0)));
  EXPECT_FALSE(warmth.to_discard(allocator, at(0)));
  EXPECT_FALSE(warmth.next_deadline(allocator));
}

TEST_F(WarmthTest, AReserveIsKeptBeyondWhatIsUsed) {
  Warmth warmth(options());
  Allocator allocator(256 * kMiB);
  allocator.allocate(kMiB);
  warmth.observe(kMiB, at(0), at(0));
  EXPECT_EQ(populate(warmth, allocator, at(0)), 8 * kMiB);
  allocator.allocate(3 * kMiB);
  EXPECT_EQ(populate(warmth, allocator, at(0)), 3 * kMiB);
}

TEST_F(WarmthTest, TheReserveGrowsWithTheRateAndIsLimited) {
  Warmth warmth(options());
  Allocator allocator(256 * kMiB);
  std::uint64_t allocated = 0;
  for (int ms = 0; ms <= 3000; ms += 250) warmth.observe(allocated += 10 * kMiB, at(ms), at(ms));
  EXPECT_NEAR(static_cast<double>(warmth.reserve_target_bytes(at(3000))), 20.0 * kMiB, 2.0 * kMiB);
  for (int ms = 3250; ms <= 6000; ms += 250) warmth.observe(allocated += 500 * kMiB, at(ms), at(ms));
  EXPECT_EQ(warmth.reserve_target_bytes(at(6000)), 64 * kMiB);
}

TEST_F(WarmthTest, IdleMemoryIsGivenBackInSlices) {
  Warmth warmth(options());
  Allocator allocator(16 * kMiB);
  Block* used = allocator.allocate(4 * kMiB);
  warmth.observe(4 * kMiB, at(0), at(0));
  populate(warmth, allocator, at(0));
  EXPECT_EQ(warmth.next_deadline(allocator), at(1000));
  EXPECT_FALSE(warmth.to_discard(allocator, at(999)));
  std::uint64_t discarded = 0;
  while (auto range = warmth.to_discard(allocator, at(1000))) {
    EXPECT_LE(range->length, kMiB);
    EXPECT_GE(range->offset, 4 * kMiB);  // what is used stays
    discarded += range->length;
  }
  EXPECT_EQ(discarded, 12 * kMiB);
  EXPECT_EQ(allocator.warm_free_bytes(), 0u);
  EXPECT_FALSE(warmth.next_deadline(allocator));
  EXPECT_FALSE(warmth.to_populate(allocator, at(2000)));
  allocator.free(used, true);  // freed while idle: goes too
  EXPECT_TRUE(warmth.next_deadline(allocator));
  EXPECT_TRUE(warmth.to_discard(allocator, at(3000)));
}

TEST_F(WarmthTest, ActivityEndsTheGivingBack) {
  Warmth warmth(options());
  Allocator allocator(16 * kMiB);
  warmth.observe(kMiB, at(0), at(0));
  ASSERT_TRUE(warmth.to_discard(allocator, at(1000)));
  warmth.observe(2 * kMiB, at(1001), at(1001));
  EXPECT_FALSE(warmth.to_discard(allocator, at(1002)));
  EXPECT_TRUE(warmth.to_populate(allocator, at(1002)));
}

TEST_F(WarmthTest, PopulatingAllTouchesEverythingAndKeepsIt) {
  WarmthOptions all = options();
  all.populate_all = true;
  Warmth warmth(all);
  Allocator allocator(16 * kMiB);
  EXPECT_EQ(populate(warmth, allocator, at(0)), 16 * kMiB);
  EXPECT_FALSE(warmth.to_discard(allocator, at(100'000)));
}

}  // namespace
}  // namespace aktis::plasma
