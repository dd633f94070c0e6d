// What element-wise reductions do at the edges of their types.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "collective/reduce.h"

namespace aktis::collective {
namespace {

template <typename T>
std::vector<T> combined(DataType type, Operation operation, std::vector<T> a, const std::vector<T>& b) {
  combine(type, operation, reinterpret_cast<std::byte*>(a.data()),
          reinterpret_cast<const std::byte*>(b.data()), a.size());
  return a;
}

TEST(ReduceTest, SumsOfIntegersWrapAround) {
  EXPECT_EQ(combined<std::int8_t>(DataType::kInt8, Operation::kSum, {127, -1}, {1, 1}),
            (std::vector<std::int8_t>{-128, 0}));
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(combined<std::int64_t>(DataType::kInt64, Operation::kSum, {kMost}, {1}),
            (std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min()}));
  // Promoted to int, this product would overflow.
  EXPECT_EQ(combined<std::uint16_t>(DataType::kUint16, Operation::kProduct, {65535}, {65535}),
            (std::vector<std::uint16_t>{1}));
}

TEST(ReduceTest, BooleansStayBooleans) {
  const std::vector<std::uint8_t> a{0, 0, 1, 1}, b{0, 1, 0, 1};
  EXPECT_EQ(combined(DataType::kBool, Operation::kSum, a, b), (std::vector<std::uint8_t>{0, 1, 1, 1}));
  EXPECT_EQ(combined(DataType::kBool, Operation::kProduct, a, b), (std::vector<std::uint8_t>{0, 0, 0, 1}));
  EXPECT_EQ(combined(DataType::kBool, Operation::kMax, a, b), (std::vector<std::uint8_t>{0, 1, 1, 1}));
}

TEST(ReduceTest, ANanIsTheMinimumAndTheMaximum) {
  const double nan = std::nan("");
  for (const Operation operation : {Operation::kMin, Operation::kMax}) {
    const auto result = combined<double>(DataType::kFloat64, operation, {nan, 1, 3}, {1, nan, 4});
    EXPECT_TRUE(std::isnan(result[0]));
    EXPECT_TRUE(std::isnan(result[1]));
    EXPECT_EQ(result[2], operation == Operation::kMin ? 3 : 4);
  }
}

TEST(ReduceTest, NarrowFloatsAreRoundedToNearest) {
  const auto half = [](float value) {
    const auto narrow = static_cast<_Float16>(value);
    std::uint16_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    return bits;
  };
  EXPECT_EQ(combined<std::uint16_t>(DataType::kFloat16, Operation::kSum, {half(1.5)}, {half(2.25)}),
            (std::vector<std::uint16_t>{half(3.75)}));
  // 1 + 2^-8 lies between two numbers: the even one of them is 1. 1 + 3 * 2^-8 is nearer to the odd one's
  // successor.
  EXPECT_EQ(combined<std::uint16_t>(DataType::kBfloat16, Operation::kSum, {0x3f80, 0x3f80}, {0x3b80, 0x3c40}),
            (std::vector<std::uint16_t>{0x3f80, 0x3f82}));
  const auto nan = combined<std::uint16_t>(DataType::kBfloat16, Operation::kSum, {0x7f80}, {0xff80});
  EXPECT_EQ(nan[0] & 0x7f80, 0x7f80);
  EXPECT_NE(nan[0] & 0x007f, 0) << "infinity less infinity is no number";
}

TEST(ReduceTest, ComplexNumbersHaveNoOrder) {
  using Complex = std::complex<double>;
  EXPECT_EQ(combined<Complex>(DataType::kComplex128, Operation::kProduct, {{0, 1}}, {{0, 1}}),
            (std::vector<Complex>{{-1, 0}}));
  EXPECT_THROW(combined<Complex>(DataType::kComplex128, Operation::kMax, {{0, 1}}, {{0, 1}}),
               std::invalid_argument);
  EXPECT_FALSE(supports(DataType::kComplex64, Operation::kMin));
}

}  // namespace
}  // namespace aktis::collective
