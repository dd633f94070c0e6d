#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/look_through.h"

namespace aktis::core {
namespace {

struct Look {
  std::unordered_map<int, int> map;
  std::vector<int> seen;
  std::mutex mutex;
  int locks = 0;
  int restarts = 0;

  void fill(int first, int last) {
    for (int i = first; i < last; ++i) map.emplace(i, i);
  }
  // `between`: what others do before the lock is taken for the given time.
  void run(const std::function<void(int)>& between = [](int) {}) {
    look_through(
        map,
        [&] {
          between(++locks);
          return std::unique_lock(mutex);
        },
        [&] {
          ++restarts;
          seen.clear();
        },
        [&](const auto& entry) { seen.push_back(entry.first); });
    std::ranges::sort(seen);
  }
};

std::vector<int> numbers(int end) {
  std::vector<int> all;
  for (int i = 0; i < end; ++i) all.push_back(i);
  return all;
}

TEST(LookThroughTest, EveryEntryIsSeenOnce) {
  Look look;
  look.run();
  EXPECT_TRUE(look.seen.empty());
  look.fill(0, 5000);
  look.locks = 0;
  look.run();
  EXPECT_EQ(look.seen, numbers(5000));
  EXPECT_GT(look.locks, 5);
  EXPECT_EQ(look.restarts, 0);
}

TEST(LookThroughTest, AMapThatGrowsInBetweenIsSeenAnew) {
  Look look;
  look.fill(0, 3000);
  look.run([&](int time) {
    if (time == 3) look.fill(3000, 20000);
  });
  EXPECT_EQ(look.seen, numbers(20000));
  EXPECT_EQ(look.restarts, 1);
}

TEST(LookThroughTest, WhatGoesInBetweenDoesNotHideWhatStays) {
  Look look;
  look.fill(0, 3000);
  look.run([&](int time) {
    if (time != 2) return;
    for (int i = 0; i < 3000; i += 2) look.map.erase(i);
  });
  for (int i = 1; i < 3000; i += 2) EXPECT_TRUE(std::ranges::binary_search(look.seen, i)) << i;
}

}  // namespace
}  // namespace aktis::core
