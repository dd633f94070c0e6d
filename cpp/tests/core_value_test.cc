// The layout of serialized values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "core/value.h"

namespace aktis::core {
namespace {

std::vector<std::byte> some_bytes(std::size_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

bool same(Bytes left, Bytes right) {
  return std::ranges::equal(left, right);  // not memcmp, which takes no null pointer even for nothing
}

TEST(ValueTest, RoundTripWithBuffersAlignedToCacheLines) {
  const auto inband = some_bytes(37, 1);
  const auto first = some_bytes(1000, 2), second = some_bytes(0, 3), third = some_bytes(65, 4);
  const std::vector<Bytes> buffers = {first, second, third};
  const auto value = OwnedValue::make(ValueKind::kPickle, inband, buffers);
  EXPECT_EQ(value->view().size(), value_size(inband.size(), buffers));
  const auto parsed = parse_value(value->view());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->kind, ValueKind::kPickle);
  EXPECT_TRUE(same(parsed->inband, inband));
  ASSERT_EQ(parsed->buffers.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(same(parsed->buffers[i], buffers[i]));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(parsed->buffers[i].data()) % kValueAlignment, 0u);
  }
}

TEST(ValueTest, EveryTruncationIsRefused) {
  const auto inband = some_bytes(10, 1), buffer = some_bytes(100, 2);
  const std::vector<Bytes> buffers = {buffer};
  const auto value = OwnedValue::make(ValueKind::kPickle, inband, buffers);
  for (std::size_t size = 0; size < value->view().size(); ++size) {
    EXPECT_FALSE(parse_value(value->view().first(size))) << size;
  }
}

TEST(ValueTest, LengthsThatWrapAroundAreRefused) {
  auto raw = some_bytes(64, 1);
  std::memset(raw.data(), 0, 16);
  raw[0] = std::byte{1};
  const std::uint64_t huge = ~std::uint64_t{0} - 8;
  std::memcpy(&raw[8], &huge, 8);
  EXPECT_FALSE(parse_value(raw));
}

TEST(ValueTest, UnknownVersionAndKindAreRefused) {
  const auto value = OwnedValue::make(ValueKind::kError, {}, {});
  std::vector<std::byte> raw(value->view().begin(), value->view().end());
  raw[0] = std::byte{2};
  EXPECT_FALSE(parse_value(raw));
  raw[0] = std::byte{1};
  raw[1] = std::byte{9};
  EXPECT_FALSE(parse_value(raw));
}

}  // namespace
}  // namespace aktis::core
