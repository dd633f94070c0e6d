#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "plasma/allocator.h"

namespace aktis::plasma {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

TEST(Allocator, SizesAndOffsetsAreAligned) {
  Allocator allocator(kMiB + 17);
  EXPECT_EQ(allocator.capacity_bytes(), kMiB);
  Block* first = allocator.allocate(1);
  Block* second = allocator.allocate(0);
  EXPECT_EQ(first->size, kAlignmentBytes);
  EXPECT_EQ(second->size, kAlignmentBytes);
  EXPECT_EQ(second->offset % kAlignmentBytes, 0u);
  EXPECT_NE(first->offset, second->offset);
}

TEST(Allocator, TakesTheSmallestRangeThatFits) {
  Allocator allocator(1024);
  Block* small = allocator.allocate(128);
  allocator.allocate(64);
  Block* large = allocator.allocate(256);
  allocator.allocate(64);
  allocator.free(large, false);
  allocator.free(small, false);
  EXPECT_EQ(allocator.allocate(128)->offset, 0u);
  EXPECT_EQ(allocator.allocate(200)->offset, 192u);
}

TEST(Allocator, FreedNeighboursBecomeOne) {
  Allocator allocator(1024);
  std::vector<Block*> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(allocator.allocate(64));
  EXPECT_EQ(allocator.allocate(1), nullptr);
  for (int i : {3, 5, 4}) allocator.free(blocks[static_cast<std::size_t>(i)], true);
  EXPECT_EQ(allocator.largest_free_bytes(), 192u);
  EXPECT_STREQ(allocator.validate(), "");
  EXPECT_EQ(allocator.allocate(192)->offset, 192u);
}

TEST(Allocator, WarmRangesAreUsedFirst) {
  Allocator allocator(kMiB);
  Block* used = allocator.allocate(4096);
  allocator.allocate(64);  // keeps what follows apart
  allocator.free(used, true);
  EXPECT_EQ(allocator.warm_free_bytes(), 4096u);
  EXPECT_EQ(allocator.allocate(64)->offset, 0u);  // although both would do
  allocator.note_all_free_cold();
  EXPECT_EQ(allocator.warm_free_bytes(), 0u);
  EXPECT_STREQ(allocator.validate(), "");
}

TEST(Allocator, PopulatedMemoryCountsFromTheBeginningOfTheLargestRange) {
  Allocator allocator(kMiB);
  allocator.note_warm(0, 4096);
  allocator.note_warm(4096, 4096);
  EXPECT_EQ(allocator.warm_free_bytes(), 8192u);
  allocator.note_warm(64 << 10, 4096);  // a gap before it: not worth knowing
  EXPECT_EQ(allocator.warm_free_bytes(), 8192u);
  allocator.allocate(4096);
  EXPECT_EQ(allocator.warm_free_bytes(), 4096u);
  EXPECT_STREQ(allocator.validate(), "");
}

TEST(Allocator, SplitPartsAreFreedOneByOne) {
  Allocator allocator(kMiB);
  Block* slab = allocator.allocate(1024);
  Block* second = allocator.split(slab, 256);
  Block* third = allocator.split(second, 256);
  EXPECT_EQ(third->size, 512u);
  allocator.free(second, true);
  EXPECT_STREQ(allocator.validate(), "");
  allocator.free(slab, true);
  allocator.free(third, true);
  EXPECT_EQ(allocator.largest_free_bytes(), kMiB);
  EXPECT_STREQ(allocator.validate(), "");
}

TEST(Allocator, ReservesWhatAStoreHadBefore) {
  Allocator allocator(1024);
  EXPECT_EQ(allocator.reserve(64, 100)->size, 128u);
  EXPECT_EQ(allocator.reserve(512, 512)->offset, 512u);
  EXPECT_EQ(allocator.reserve(512, 64), nullptr);   // taken
  EXPECT_EQ(allocator.reserve(1024, 64), nullptr);  // outside
  EXPECT_STREQ(allocator.validate(), "");
  EXPECT_EQ(allocator.allocate(320)->offset, 192u);
}

TEST(Allocator, ReserveRefusesNonsense) {
  Allocator allocator(1024);
  EXPECT_EQ(allocator.reserve(32, 64), nullptr);
  EXPECT_EQ(allocator.reserve(0, ~std::uint64_t{0}), nullptr);
  EXPECT_EQ(allocator.reserve(~std::uint64_t{0} - 63, 64), nullptr);
  EXPECT_EQ(allocator.reserve(960, 128), nullptr);
  EXPECT_STREQ(allocator.validate(), "");
}

TEST(Allocator, RequestsBeyondTheArenaFail) {
  Allocator allocator(1024);
  EXPECT_EQ(allocator.allocate(1025), nullptr);
  EXPECT_EQ(allocator.allocate(~std::uint64_t{0}), nullptr);
  EXPECT_NE(allocator.allocate(1024), nullptr);
}

// Against a model that knows which bytes are taken; a seed that fails is in the test's name.
class AllocatorModel : public ::testing::TestWithParam<unsigned> {};

TEST_P(AllocatorModel, NeverHandsOutAByteTwice) {
  std::mt19937_64 random(GetParam());
  constexpr std::uint64_t kCapacity = 64 << 10;
  Allocator allocator(kCapacity);
  std::map<std::uint64_t, Block*> taken;  // the model: disjoint ranges by offset
  auto largest_gap = [&] {
    std::uint64_t position = 0, largest = 0;
    for (const auto& [offset, block] : taken) {
      largest = std::max(largest, offset - position);
      position = offset + block->size;
    }
    return std::max(largest, kCapacity - position);
  };
  auto any = [&] { return std::next(taken.begin(), static_cast<long>(random() % taken.size())); };
  for (int step = 0; step < 3000; ++step) {
    const auto choice = random() % 10;
    if (choice < 5) {
      const std::uint64_t size = random() % (random() % 8 == 0 ? 16384 : 700);
      const std::uint64_t gap = largest_gap();
      Block* block = allocator.allocate(size);
      ASSERT_EQ(block != nullptr, footprint(size) <= gap) << "step " << step;
      if (block == nullptr) continue;
      ASSERT_EQ(block->size, footprint(size));
      auto [place, is_new] = taken.emplace(block->offset, block);
      ASSERT_TRUE(is_new);
      if (place != taken.begin()) {
        ASSERT_LE(std::prev(place)->first + std::prev(place)->second->size, block->offset);
      }
      if (auto next = std::next(place); next != taken.end()) {
        ASSERT_LE(block->offset + block->size, next->first);
      }
    } else if (choice < 8 && !taken.empty()) {
      auto entry = any();
      allocator.free(entry->second, random() % 2 == 0);
      taken.erase(entry);
    } else if (choice == 8 && !taken.empty()) {
      Block* block = any()->second;
      if (block->size < 2 * kAlignmentBytes) continue;
      const std::uint64_t first = (1 + random() % (block->size / kAlignmentBytes - 1)) * kAlignmentBytes;
      Block* second = allocator.split(block, first);
      ASSERT_EQ(second->offset, block->offset + first);
      taken.emplace(second->offset, second);
    } else {
      allocator.note_warm(random() % kCapacity / 64 * 64, random() % 8192);
      if (random() % 50 == 0) allocator.note_all_free_cold();
    }
    if (step % 16 == 0) {
      ASSERT_STREQ(allocator.validate(), "") << "step " << step;
    }
  }
  std::uint64_t used = 0;
  for (const auto& [offset, block] : taken) used += block->size;
  EXPECT_EQ(allocator.used_bytes(), used);
  for (const auto& [offset, block] : taken) allocator.free(block, true);
  EXPECT_EQ(allocator.largest_free_bytes(), kCapacity);
  EXPECT_STREQ(allocator.validate(), "");
}

INSTANTIATE_TEST_SUITE_P(Seeds, AllocatorModel, ::testing::Range(0u, 30u));

}  // namespace
}  // namespace aktis::plasma
