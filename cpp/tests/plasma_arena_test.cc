#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "plasma/arena.h"
#include "plasma/warmer.h"

namespace aktis::plasma {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

TEST(Arena, CannotBeResizedByAnyHolder) {
  Arena arena(4 * kMiB, HugePages::kNone);
  EXPECT_NE(::ftruncate(arena.fd(), kMiB), 0);
  EXPECT_NE(::ftruncate(arena.fd(), 8 * kMiB), 0);
  EXPECT_EQ(arena.bytes().size(), 4 * kMiB);
}

TEST(Arena, StartsWithoutMemoryAndGetsItAheadOfDemand) {
  Arena arena(8 * kMiB, HugePages::kNone);
  EXPECT_EQ(arena.resident_bytes(), 0u);
  EXPECT_TRUE(arena.populate(0, 2 * kMiB));
  EXPECT_EQ(arena.resident_bytes(), 2 * kMiB);
  EXPECT_TRUE(arena.populate(8 * kMiB - 10, 10));
  EXPECT_TRUE(arena.populate(100 * kMiB, 10));  // beyond the end: nothing to do
}

TEST(Arena, PopulatingLeavesTheBytesAlone) {
  Arena arena(kMiB, HugePages::kNone);
  std::fill(arena.bytes().begin(), arena.bytes().end(), std::byte{7});
  EXPECT_TRUE(arena.populate(0, kMiB));
  EXPECT_TRUE(
      std::all_of(arena.bytes().begin(), arena.bytes().end(), [](auto b) { return b == std::byte{7}; }));
}

TEST(Arena, DiscardsOnlyWholePagesInside) {
  Arena arena(kMiB, HugePages::kNone);
  std::fill(arena.bytes().begin(), arena.bytes().end(), std::byte{7});
  EXPECT_EQ(arena.discard(100, 3 * 4096), 2u * 4096);
  EXPECT_EQ(arena.resident_bytes(), kMiB - 2 * 4096);
  EXPECT_EQ(arena.bytes()[4095], std::byte{7});
  EXPECT_EQ(arena.bytes()[4096], std::byte{0});
  EXPECT_EQ(arena.bytes()[3 * 4096], std::byte{7});
  EXPECT_EQ(arena.discard(0, 100), 0u);
}

TEST(Arena, OutlivesTheStoreThroughItsDescriptor) {
  wire::UniqueFd kept;
  {
    Arena arena(kMiB, HugePages::kNone);
    arena.bytes()[1000] = std::byte{9};
    kept = wire::UniqueFd(::dup(arena.fd()));
  }
  Arena next(std::move(kept));
  EXPECT_EQ(next.size_bytes(), kMiB);
  EXPECT_EQ(next.bytes()[1000], std::byte{9});
}

TEST(Arena, RefusesDescriptorsThatAreNoArena) {
  EXPECT_THROW(Arena(wire::UniqueFd(::open("/dev/null", O_RDWR))), std::system_error);
  EXPECT_THROW(Arena(wire::UniqueFd(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING))),
               std::system_error);
}

TEST(Warmer, PopulatesOneRangeAtATime) {
  Arena arena(8 * kMiB, HugePages::kNone);
  std::mutex mutex;
  std::condition_variable changed;
  int done = 0;
  Warmer warmer(arena, [&](PageRange, bool populated) {
    std::lock_guard lock(mutex);
    EXPECT_TRUE(populated);
    ++done;
    changed.notify_one();
  });
  EXPECT_TRUE(warmer.populate({0, kMiB}));
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return done == 1; }));
  lock.unlock();
  EXPECT_TRUE(warmer.populate({kMiB, kMiB}));
  lock.lock();
  ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return done == 2; }));
  EXPECT_EQ(arena.resident_bytes(), 2 * kMiB);
}

}  // namespace
}  // namespace aktis::plasma
