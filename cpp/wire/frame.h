// Frames: the unit of everything that crosses a socket of Aktis except gRPC.
//
// A frame is a fixed 16-byte little-endian header followed by `payload_bytes` bytes. The decoder is
// sans-I/O: bytes in, frames out; it checks every size before it allocates and never looks inside a
// payload. What a payload means is defined beside the code that owns the frame type
// (wire/handshake.h, core/messages.h, plasma/protocol.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace aktis::wire {

// Peers of the same major version understand each other; a minor version only adds frame types and
// trailing fields, which an older decoder ignores.
inline constexpr std::uint16_t kProtocolMajor = 1;
inline constexpr std::uint16_t kProtocolMinor = 0;

inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kDefaultMaxPayloadBytes = 64u << 20;

// Ranges, so that a reader of a trace can tell whose frame it is: 1-15 wire, 16-31 control (worker to
// raylet, protobuf payload), 32-63 worker to worker, 64-95 plasma.
enum class FrameType : std::uint16_t {
  kHello = 1,
  kHelloAck = 2,
  kHelloReject = 3,
  kPing = 4,
  kPong = 5,
  kControl = 16,
  kFirstCore = 32,
  kLastCore = 63,
  kFirstPlasma = 64,
  kLastPlasma = 95,
};

struct FrameHeader {
  std::uint32_t payload_bytes = 0;
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint64_t correlation = 0;  // request id or sequence number; its meaning belongs to the type
};

// A decoded frame. `payload` points into the decoder's buffer and is valid until the next call of
// FrameDecoder::prepare().
struct Frame {
  FrameHeader header;
  std::span<const std::byte> payload;
};

void encode_header(const FrameHeader& header, std::byte* out /* kHeaderBytes */);
FrameHeader decode_header(const std::byte* in /* kHeaderBytes */);

// Turns a byte stream into frames. Not thread-safe: belongs to the thread that reads the socket.
//
//   auto room = decoder.prepare();  n = recv(fd, room.data(), room.size());  decoder.commit(n);
//   while (decoder.next(frame) == FrameDecoder::Result::kFrame) ...
class FrameDecoder {
 public:
  enum class Result { kFrame, kNeedMore, kError };

  explicit FrameDecoder(std::size_t max_payload_bytes = kDefaultMaxPayloadBytes);

  // The limit for frames that next() has not looked at yet: small until a peer is known, then larger.
  void set_max_payload_bytes(std::size_t max_payload_bytes) { max_payload_bytes_ = max_payload_bytes; }

  // Room to receive into: at least 64 KiB, or what is missing of a frame whose header is known
  // (never more than the maximum payload). Invalidates payloads handed out before.
  std::span<std::byte> prepare();
  void commit(std::size_t received_bytes);

  // After kError every later call returns kError; error() says what was wrong with which sizes.
  Result next(Frame& out);
  const std::string& error() const { return error_; }

  // Bytes received and not yet handed out; for tests and statistics.
  std::size_t buffered_bytes() const { return end_ - begin_; }

 private:
  std::size_t missing_bytes() const;

  std::size_t max_payload_bytes_;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::string error_;
};

}  // namespace aktis::wire
