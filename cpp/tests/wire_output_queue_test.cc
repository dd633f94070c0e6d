#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/wire_test_support.h"
#include "wire/output_queue.h"

namespace aktis::wire {
namespace {

using testing::bytes_of;

std::string contents(const OutputQueue& queue) {
  iovec parts[64];
  std::string text;
  const std::size_t count = queue.gather(parts);
  for (std::size_t i = 0; i < count; ++i)
    text.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  return text;
}

TEST(OutputQueueTest, BehavesLikeAString) {
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    OutputQueue queue;
    std::string model;
    for (int step = 0; step < 300; ++step) {
      if (random() % 2 == 0) {
        const std::size_t size = random() % 10 == 0 ? random() % 200000 : random() % 500;
        const std::string data(size, static_cast<char>('a' + step % 26));
        queue.append(bytes_of(data));
        model += data;
      } else if (!model.empty()) {
        const std::size_t size = 1 + random() % model.size();
        queue.consume(size);
        model.erase(0, size);
      }
      ASSERT_EQ(queue.size_bytes(), model.size());
      ASSERT_EQ(queue.empty(), model.empty());
      if (queue.chunks() > 64) continue;
      ASSERT_EQ(contents(queue), model) << "seed " << seed << " step " << step;
    }
  }
}

TEST(OutputQueueTest, PrependGoesBeforeWhatIsQueued) {
  OutputQueue queue;
  queue.append(bytes_of("frames"));
  queue.prepend(bytes_of("ack "));
  EXPECT_EQ(contents(queue), "ack frames");
  EXPECT_EQ(queue.size_bytes(), 10u);
}

TEST(OutputQueueTest, ClearLeavesItUsable) {
  OutputQueue queue;
  queue.append(bytes_of("old"));
  queue.clear();
  EXPECT_TRUE(queue.empty());
  queue.append(bytes_of("new"));
  EXPECT_EQ(contents(queue), "new");
}

}  // namespace
}  // namespace aktis::wire
