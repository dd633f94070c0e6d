#include "wire/frame.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

namespace aktis::wire {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are little-endian on the wire");
static_assert(sizeof(FrameHeader) == kHeaderBytes);

constexpr std::size_t kMinRoomBytes = 64u << 10;
// Twice the room, so that a partial frame in front of it does not force a larger buffer.
constexpr std::size_t kBaseCapacityBytes = 2 * kMinRoomBytes;
// A buffer grown beyond this for one large frame is given back once it is empty.
constexpr std::size_t kKeptCapacityBytes = 1u << 20;

}  // namespace

void encode_header(const FrameHeader& header, std::byte* out) { std::memcpy(out, &header, kHeaderBytes); }

FrameHeader decode_header(const std::byte* in) {
  FrameHeader header;
  std::memcpy(&header, in, kHeaderBytes);
  return header;
}

FrameDecoder::FrameDecoder(std::size_t max_payload_bytes) : max_payload_bytes_(max_payload_bytes) {}

// What is missing of the frame at the front when its header is here and acceptable, else 0.
std::size_t FrameDecoder::missing_bytes() const {
  if (buffered_bytes() < kHeaderBytes) return 0;
  const std::size_t payload_bytes = decode_header(buffer_.get() + begin_).payload_bytes;
  if (payload_bytes > max_payload_bytes_) return 0;
  const std::size_t frame_bytes = kHeaderBytes + payload_bytes;
  return frame_bytes > buffered_bytes() ? frame_bytes - buffered_bytes() : 0;
}

std::span<std::byte> FrameDecoder::prepare() {
  const std::size_t buffered = buffered_bytes();
  if (buffered == 0) {
    begin_ = end_ = 0;
    if (capacity_ > kKeptCapacityBytes) {
      buffer_.reset();
      capacity_ = 0;
    }
  }
  const std::size_t room = std::max(kMinRoomBytes, missing_bytes());
  if (capacity_ - end_ < room) {
    if (buffered + room <= capacity_) {
      std::memmove(buffer_.get(), buffer_.get() + begin_, buffered);
    } else {
      // Not initialised: pages of a large announced frame cost memory only as its bytes arrive.
      const std::size_t capacity = std::max(kBaseCapacityBytes, buffered + room);
      auto grown = std::make_unique_for_overwrite<std::byte[]>(capacity);
      if (buffered != 0) std::memcpy(grown.get(), buffer_.get() + begin_, buffered);
      buffer_ = std::move(grown);
      capacity_ = capacity;
    }
    begin_ = 0;
    end_ = buffered;
  }
  return {buffer_.get() + end_, capacity_ - end_};
}

void FrameDecoder::commit(std::size_t received_bytes) {
  assert(received_bytes <= capacity_ - end_);
  end_ += received_bytes;
}

FrameDecoder::Result FrameDecoder::next(Frame& out) {
  if (!error_.empty()) return Result::kError;
  if (buffered_bytes() < kHeaderBytes) return Result::kNeedMore;
  const FrameHeader header = decode_header(buffer_.get() + begin_);
  if (header.type == 0) {
    error_ = "frame of type 0 with " + std::to_string(header.payload_bytes) + " payload bytes";
    return Result::kError;
  }
  if (header.payload_bytes > max_payload_bytes_) {
    error_ = "frame of type " + std::to_string(header.type) + " announces " +
             std::to_string(header.payload_bytes) + " payload bytes, the limit is " +
             std::to_string(max_payload_bytes_);
    return Result::kError;
  }
  if (buffered_bytes() < kHeaderBytes + header.payload_bytes) return Result::kNeedMore;
  out.header = header;
  out.payload = {buffer_.get() + begin_ + kHeaderBytes, header.payload_bytes};
  begin_ += kHeaderBytes + header.payload_bytes;
  return Result::kFrame;
}

}  // namespace aktis::wire
