// The protobuf wire format, as far as the core writes it itself: varints and length-delimited fields. Zero
// and empty are left out, as proto3 has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace aktis::core {

inline void put_varint(std::vector<std::byte>& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<std::byte>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<std::byte>(value));
}

inline void put_number(std::vector<std::byte>& out, int field, std::uint64_t value) {
  if (value == 0) return;
  put_varint(out, static_cast<std::uint64_t>(field) << 3);
  put_varint(out, value);
}

inline void put_bytes(std::vector<std::byte>& out, int field, const void* data, std::size_t size) {
  if (size == 0) return;
  put_varint(out, static_cast<std::uint64_t>(field) << 3 | 2);
  put_varint(out, size);
  const auto* first = static_cast<const std::byte*>(data);
  out.insert(out.end(), first, first + size);
}

inline void put_text(std::vector<std::byte>& out, int field, std::string_view text) {
  put_bytes(out, field, text.data(), text.size());
}

// At most so many bytes of a text, and no part of a character: a reader refuses a message with text that is
// not UTF-8.
inline void put_text(std::vector<std::byte>& out, int field, std::string_view text, std::size_t max_bytes) {
  if (text.size() > max_bytes) {
    while (max_bytes > 0 && (static_cast<unsigned char>(text[max_bytes]) & 0xc0) == 0x80) --max_bytes;
    text = text.substr(0, max_bytes);
  }
  put_text(out, field, text);
}

template <typename Id>
void put_id(std::vector<std::byte>& out, int field, const Id& id) {
  if (!id.is_nil()) put_bytes(out, field, id.data, Id::kBytes);
}

}  // namespace aktis::core
