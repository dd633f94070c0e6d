// Element-wise reductions of arrays, one after the other, in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace aktis::collective {

enum class DataType : std::uint8_t {
  kBool,
  kInt8,
  kUint8,
  kInt16,
  kUint16,
  kInt32,
  kUint32,
  kInt64,
  kUint64,
  kFloat16,
  kBfloat16,
  kFloat32,
  kFloat64,
  kComplex64,
  kComplex128,
};
inline constexpr std::size_t kDataTypes = 15;

enum class Operation : std::uint8_t { kSum, kProduct, kMin, kMax };
inline constexpr std::size_t kOperations = 4;

std::string_view name_of(DataType type);
std::string_view name_of(Operation operation);
std::size_t size_of(DataType type);

// Complex numbers have no order.
bool supports(DataType type, Operation operation);

// target[i] = target[i] OP other[i] for `count` elements; both are aligned for their type. As in NumPy: sums
// of integers wrap around, of booleans are "or", products of booleans "and"; a NaN is the minimum and the
// maximum. Throws std::invalid_argument when the operation is not supported.
void combine(DataType type, Operation operation, std::byte* target, const std::byte* other,
             std::size_t count);

}  // namespace aktis::collective
