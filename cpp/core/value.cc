#include "core/value.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace aktis::core {
namespace {

constexpr std::uint8_t kVersion = 1;

std::size_t aligned(std::size_t offset) { return (offset + kValueAlignment - 1) & ~(kValueAlignment - 1); }

}  // namespace

std::size_t value_size(std::size_t inband_bytes, std::span<const Bytes> buffers) {
  std::size_t size = kValueHeaderBytes + 8 * buffers.size() + inband_bytes;
  for (const Bytes& buffer : buffers) size = aligned(size) + buffer.size();
  return size;
}

std::vector<std::span<std::byte>> write_value_head(std::span<std::byte> out, ValueKind kind, Bytes inband,
                                                   std::span<const Bytes> buffers) {
  const auto count = static_cast<std::uint16_t>(buffers.size());
  const std::uint64_t inband_bytes = inband.size();
  std::memset(out.data(), 0, kValueHeaderBytes);
  out[0] = std::byte{kVersion};
  out[1] = static_cast<std::byte>(kind);
  std::memcpy(&out[2], &count, 2);
  std::memcpy(&out[8], &inband_bytes, 8);
  std::size_t at = kValueHeaderBytes;
  for (const Bytes& buffer : buffers) {
    const std::uint64_t length = buffer.size();
    std::memcpy(&out[at], &length, 8);
    at += 8;
  }
  if (!inband.empty()) std::memcpy(out.data() + at, inband.data(), inband.size());
  at += inband.size();
  std::vector<std::span<std::byte>> places;
  places.reserve(buffers.size());
  for (const Bytes& buffer : buffers) {
    const std::size_t start = aligned(at);
    std::memset(out.data() + at, 0, start - at);
    places.push_back(out.subspan(start, buffer.size()));
    at = start + buffer.size();
  }
  return places;
}

std::optional<ValueView> parse_value(Bytes raw) {
  if (raw.size() < kValueHeaderBytes || raw[0] != std::byte{kVersion}) return std::nullopt;
  const auto kind = static_cast<std::uint8_t>(raw[1]);
  if (kind > static_cast<std::uint8_t>(ValueKind::kBytes)) return std::nullopt;
  std::uint16_t count;
  std::uint64_t inband_bytes;
  std::memcpy(&count, &raw[2], 2);
  std::memcpy(&inband_bytes, &raw[8], 8);
  std::size_t at = kValueHeaderBytes + 8u * count;
  if (at > raw.size() || inband_bytes > raw.size() - at) return std::nullopt;
  ValueView view;
  view.kind = static_cast<ValueKind>(kind);
  view.inband = raw.subspan(at, inband_bytes);
  at += inband_bytes;
  view.buffers.reserve(count);
  for (std::uint16_t i = 0; i < count; ++i) {
    std::uint64_t length;
    std::memcpy(&length, raw.data() + kValueHeaderBytes + 8u * i, 8);
    at = aligned(at);
    if (at > raw.size() || length > raw.size() - at) return std::nullopt;
    view.buffers.push_back(raw.subspan(at, length));
    at += length;
  }
  return view;
}

OwnedValue::OwnedValue(std::size_t size_bytes) : size_(size_bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kValueAlignment, size_bytes == 0 ? 1 : size_bytes) != 0) throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(memory));
}

void OwnedValue::Free::operator()(std::byte* data) const { std::free(data); }

std::shared_ptr<const OwnedValue> OwnedValue::copy_of(Bytes raw) {
  auto value = std::make_shared<OwnedValue>(raw.size());
  if (!raw.empty()) std::memcpy(value->writable().data(), raw.data(), raw.size());
  return value;
}

std::shared_ptr<const OwnedValue> OwnedValue::make(ValueKind kind, Bytes inband,
                                                   std::span<const Bytes> buffers) {
  auto value = std::make_shared<OwnedValue>(value_size(inband.size(), buffers));
  const auto places = write_value_head(value->writable(), kind, inband, buffers);
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (!buffers[i].empty()) std::memcpy(places[i].data(), buffers[i].data(), buffers[i].size());
  }
  return value;
}

}  // namespace aktis::core
