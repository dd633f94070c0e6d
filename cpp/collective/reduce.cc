#include "collective/reduce.h"

#include <bit>
#include <complex>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace aktis::collective {
namespace {

struct TypeFacts {
  std::string_view name;
  std::size_t size_bytes;
};

constexpr TypeFacts kTypes[kDataTypes] = {
    {"bool", 1},     {"int8", 1},    {"uint8", 1},   {"int16", 2},     {"uint16", 2},
    {"int32", 4},    {"uint32", 4},  {"int64", 8},   {"uint64", 8},    {"float16", 2},
    {"bfloat16", 2}, {"float32", 4}, {"float64", 8}, {"complex64", 8}, {"complex128", 16},
};

// A 16-bit float by its bits, computed as a float.
struct Half {
  _Float16 value;
  explicit Half(float number) : value(static_cast<_Float16>(number)) {}
  explicit operator float() const { return static_cast<float>(value); }
};

struct BrainFloat {
  std::uint16_t bits;
  explicit BrainFloat(float number) {
    const auto wide = std::bit_cast<std::uint32_t>(number);
    if (number != number) {
      bits = static_cast<std::uint16_t>(wide >> 16 | 0x40);  // rounding must not make an infinity of a NaN
    } else {
      bits =
          static_cast<std::uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);  // to nearest, ties to even
    }
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

template <typename T>
concept Narrow = std::is_same_v<T, Half> || std::is_same_v<T, BrainFloat>;

// Integers are added as unsigned ones, for which overflow is defined.
template <typename T>
constexpr auto wrapping(T value) {
  if constexpr (std::is_integral_v<T>) {
    // Not the narrow type itself: it would be promoted to int, whose overflow is not defined either.
    return static_cast<std::conditional_t<(sizeof(T) < 8), std::uint32_t, std::uint64_t>>(value);
  } else {
    return value;
  }
}

template <Operation kOperation, typename T>
T apply(T a, T b) {
  if constexpr (kOperation == Operation::kSum) {
    return static_cast<T>(wrapping(a) + wrapping(b));
  } else if constexpr (kOperation == Operation::kProduct) {
    return static_cast<T>(wrapping(a) * wrapping(b));
  } else if constexpr (kOperation == Operation::kMin) {
    return (a < b || a != a) ? a : b;
  } else {
    return (a > b || a != a) ? a : b;
  }
}

template <Operation kOperation, typename T>
void loop(std::byte* target, const std::byte* other, std::size_t count) {
  auto* a = reinterpret_cast<T*>(target);
  const auto* b = reinterpret_cast<const T*>(other);
  for (std::size_t i = 0; i < count; ++i) {
    if constexpr (Narrow<T>) {
      a[i] = T(apply<kOperation>(static_cast<float>(a[i]), static_cast<float>(b[i])));
    } else {
      a[i] = apply<kOperation>(a[i], b[i]);
    }
  }
}

template <typename T>
void loop_of(Operation operation, std::byte* target, const std::byte* other, std::size_t count) {
  switch (operation) {
    case Operation::kSum:
      return loop<Operation::kSum, T>(target, other, count);
    case Operation::kProduct:
      return loop<Operation::kProduct, T>(target, other, count);
    case Operation::kMin:
      if constexpr (std::is_arithmetic_v<T> || Narrow<T>)
        return loop<Operation::kMin, T>(target, other, count);
      break;
    case Operation::kMax:
      if constexpr (std::is_arithmetic_v<T> || Narrow<T>)
        return loop<Operation::kMax, T>(target, other, count);
      break;
  }
}

// Of 0 and 1 the larger is "or", the smaller is "and".
Operation of_booleans(Operation operation) {
  if (operation == Operation::kSum) return Operation::kMax;
  return operation == Operation::kProduct ? Operation::kMin : operation;
}

}  // namespace

std::string_view name_of(DataType type) { return kTypes[static_cast<std::size_t>(type)].name; }

std::size_t size_of(DataType type) { return kTypes[static_cast<std::size_t>(type)].size_bytes; }

std::string_view name_of(Operation operation) {
  constexpr std::string_view kNames[kOperations] = {"SUM", "PRODUCT", "MIN", "MAX"};
  return kNames[static_cast<std::size_t>(operation)];
}

bool supports(DataType type, Operation operation) {
  const bool is_complex = type == DataType::kComplex64 || type == DataType::kComplex128;
  return !is_complex || operation == Operation::kSum || operation == Operation::kProduct;
}

void combine(DataType type, Operation operation, std::byte* target, const std::byte* other,
             std::size_t count) {
  if (!supports(type, operation)) {
    throw std::invalid_argument(std::string(name_of(operation)) + " of " + std::string(name_of(type)) +
                                " is not defined: complex numbers have no order");
  }
  switch (type) {
    case DataType::kBool:
      return loop_of<std::uint8_t>(of_booleans(operation), target, other, count);
    case DataType::kInt8:
      return loop_of<std::int8_t>(operation, target, other, count);
    case DataType::kUint8:
      return loop_of<std::uint8_t>(operation, target, other, count);
    case DataType::kInt16:
      return loop_of<std::int16_t>(operation, target, other, count);
    case DataType::kUint16:
      return loop_of<std::uint16_t>(operation, target, other, count);
    case DataType::kInt32:
      return loop_of<std::int32_t>(operation, target, other, count);
    case DataType::kUint32:
      return loop_of<std::uint32_t>(operation, target, other, count);
    case DataType::kInt64:
      return loop_of<std::int64_t>(operation, target, other, count);
    case DataType::kUint64:
      return loop_of<std::uint64_t>(operation, target, other, count);
    case DataType::kFloat16:
      return loop_of<Half>(operation, target, other, count);
    case DataType::kBfloat16:
      return loop_of<BrainFloat>(operation, target, other, count);
    case DataType::kFloat32:
      return loop_of<float>(operation, target, other, count);
    case DataType::kFloat64:
      return loop_of<double>(operation, target, other, count);
    case DataType::kComplex64:
      return loop_of<std::complex<float>>(operation, target, other, count);
    case DataType::kComplex128:
      return loop_of<std::complex<double>>(operation, target, other, count);
  }
}

}  // namespace aktis::collective
