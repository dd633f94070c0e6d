// The layout of a serialized value: in shared memory, inside messages and in the owner's memory alike.
//
//   0   u8 version, u8 kind, u16 buffer count, u32 zero
//   8   u64 in-band bytes
//   16  u64 length of each out-of-band buffer
//       in-band bytes (a pickle), then each buffer at the next multiple of 64
//
// Buffers are pickle protocol 5 out-of-band data: NumPy and Arrow read them in place. A value that starts at
// a multiple of 64 therefore has every buffer aligned to a cache line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace aktis::core {

enum class ValueKind : std::uint8_t {
  kPickle = 0,
  kError = 1,  // a pickled exception: get() raises it
  kBytes = 2,  // the in-band bytes are the value, a Python bytes object
};

inline constexpr std::size_t kValueHeaderBytes = 16;
inline constexpr std::size_t kValueAlignment = 64;

using Bytes = std::span<const std::byte>;

struct ValueView {
  ValueKind kind = ValueKind::kPickle;
  Bytes inband;
  std::vector<Bytes> buffers;
};

// Size of the layout for these parts.
std::size_t value_size(std::size_t inband_bytes, std::span<const Bytes> buffers);

// Writes header, lengths and in-band bytes, and zeroes the padding; returns where each buffer goes, so that
// the caller can copy large ones without a lock. `out` must have value_size() bytes.
std::vector<std::span<std::byte>> write_value_head(std::span<std::byte> out, ValueKind kind, Bytes inband,
                                                   std::span<const Bytes> buffers);

// Checks every length against the input; nullopt when it is not a value. Nothing is copied.
std::optional<ValueView> parse_value(Bytes raw);

// A value in this process's memory, aligned to kValueAlignment.
class OwnedValue {
 public:
  OwnedValue() = default;
  explicit OwnedValue(std::size_t size_bytes);
  static std::shared_ptr<const OwnedValue> copy_of(Bytes raw);
  static std::shared_ptr<const OwnedValue> make(ValueKind kind, Bytes inband, std::span<const Bytes> buffers);

  std::span<std::byte> writable() { return {data_.get(), size_}; }
  Bytes view() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace aktis::core
