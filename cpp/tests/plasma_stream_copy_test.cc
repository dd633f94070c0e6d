#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "plasma/stream_copy.h"

namespace aktis::plasma {
namespace {

// Every byte between two guards, for sizes around each limit and every alignment that matters.
TEST(StreamCopy, CopiesEveryByteAndNoOther) {
  constexpr std::size_t kGuard = 128;
  const std::size_t sizes[] = {
      0,      1, 63, 4096, kStreamMinBytes - 1, kStreamMinBytes, kStreamMinBytes + 1, kStreamMinBytes + 16383,
      1000003};
  for (const std::size_t size : sizes) {
    for (const std::size_t shift : {0u, 1u, 48u, 63u}) {
      std::vector<std::byte> source(size + shift), target(size + shift + 2 * kGuard, std::byte{0xee});
      for (std::size_t i = 0; i < source.size(); ++i)
        source[i] = static_cast<std::byte>(i * 2654435761u >> 11);
      const std::span from = std::span(source).subspan(shift / 2, size);
      const std::span to = std::span(target).subspan(kGuard + shift, size);
      stream_copy(to, from);
      ASSERT_TRUE(std::equal(to.begin(), to.end(), from.begin())) << size << " shifted by " << shift;
      const auto untouched = [](std::byte byte) { return byte == std::byte{0xee}; };
      ASSERT_TRUE(std::all_of(target.begin(), target.begin() + static_cast<long>(kGuard + shift), untouched));
      ASSERT_TRUE(std::all_of(target.end() - static_cast<long>(kGuard), target.end(), untouched));
    }
  }
}

}  // namespace
}  // namespace aktis::plasma
