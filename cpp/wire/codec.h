// Bounded reading and appending of little-endian fields; every payload of our own format goes through
// these two classes, so that a decoder cannot run past its input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace aktis::wire {

// Reads fields in order. A read past the end (or a string longer than its limit) makes the reader
// fail: it then returns zeros and empty views, and ok() is false. Callers decode a whole message and
// check ok() once. Counts must be checked with `fits(count, min_element_bytes)` before a reserve().
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> input) : input_(input) {}

  template <typename T>
  T number() {
    static_assert(std::is_arithmetic_v<T>);
    T value{};
    if (auto raw = take(sizeof(T)); raw.size() == sizeof(T)) std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint16_t u16() { return number<std::uint16_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  std::int64_t i64() { return number<std::int64_t>(); }

  // `length` raw bytes, not copied.
  std::span<const std::byte> bytes(std::size_t length) { return take(length); }

  // u32 length, then that many bytes, not copied; fails when longer than `max_bytes`.
  std::span<const std::byte> blob(std::size_t max_bytes) {
    const std::size_t length = u32();
    if (length > max_bytes) return fail();
    return take(length);
  }
  // u16 length, then that many bytes.
  std::string_view text(std::size_t max_bytes = 0xffff) {
    const std::size_t length = u16();
    if (length > max_bytes) return fail(), std::string_view{};
    auto raw = take(length);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
  // Copies a fixed-size id (a type with trivially copyable storage).
  template <typename Id>
  Id id() {
    static_assert(std::is_trivially_copyable_v<Id>);
    Id value{};
    if (auto raw = take(sizeof(Id)); raw.size() == sizeof(Id)) std::memcpy(&value, raw.data(), sizeof(Id));
    return value;
  }

  bool fits(std::size_t count, std::size_t min_element_bytes) {
    if (min_element_bytes != 0 && count > remaining() / min_element_bytes) return fail(), false;
    return ok_;
  }
  std::size_t remaining() const { return input_.size(); }
  bool ok() const { return ok_; }

 private:
  std::span<const std::byte> fail() {
    ok_ = false;
    input_ = {};
    return {};
  }
  std::span<const std::byte> take(std::size_t length) {
    if (length > input_.size()) return fail();
    auto taken = input_.first(length);
    input_ = input_.subspan(length);
    return taken;
  }

  std::span<const std::byte> input_;
  bool ok_ = true;
};

// Appends fields to a buffer that it owns.
class ByteWriter {
 public:
  template <typename T>
  ByteWriter& number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    return raw(&value, sizeof(T));
  }
  ByteWriter& u8(std::uint8_t v) { return number(v); }
  ByteWriter& u16(std::uint16_t v) { return number(v); }
  ByteWriter& u32(std::uint32_t v) { return number(v); }
  ByteWriter& u64(std::uint64_t v) { return number(v); }
  ByteWriter& i64(std::int64_t v) { return number(v); }
  ByteWriter& raw(const void* data, std::size_t length) {
    const std::size_t at = out_.size();
    out_.resize(at + length);
    if (length > 0) std::memcpy(out_.data() + at, data, length);
    return *this;
  }
  ByteWriter& blob(std::span<const std::byte> data) {
    return u32(static_cast<std::uint32_t>(data.size())).raw(data.data(), data.size());
  }
  ByteWriter& text(std::string_view value) {  // cut at 65535 bytes
    const auto length = static_cast<std::uint16_t>(value.size() > 0xffff ? 0xffff : value.size());
    return u16(length).raw(value.data(), length);
  }
  template <typename Id>
  ByteWriter& id(const Id& value) {
    static_assert(std::is_trivially_copyable_v<Id>);
    return raw(&value, sizeof(Id));
  }

  std::span<const std::byte> view() const { return out_; }
  std::size_t size() const { return out_.size(); }
  void clear() { out_.clear(); }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

}  // namespace aktis::wire
