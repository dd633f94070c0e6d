// FrameDecoder: however a stream is cut, the same frames come out, and nothing is allocated for sizes
// that are only claimed.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "wire/frame.h"

namespace {

using aktis::wire::Frame;
using aktis::wire::FrameDecoder;

constexpr std::size_t kMaxPayloadBytes = 1000;

void require(bool condition) {
  if (!condition) std::abort();
}

// Everything that comes out, as one string, when every receive gives at most `step` bytes.
std::string decode(const std::uint8_t* data, std::size_t size, std::size_t step) {
  FrameDecoder decoder(kMaxPayloadBytes);
  std::string seen;
  for (std::size_t at = 0; at < size;) {
    const auto room = decoder.prepare();
    require(room.size() >= 64 << 10 && room.size() <= 128 << 10);
    const std::size_t part = std::min({step, room.size(), size - at});
    std::memcpy(room.data(), data + at, part);
    decoder.commit(part);
    at += part;
    Frame frame;
    FrameDecoder::Result result;
    while ((result = decoder.next(frame)) == FrameDecoder::Result::kFrame) {
      require(frame.payload.size() == frame.header.payload_bytes && frame.payload.size() <= kMaxPayloadBytes);
      seen += std::to_string(frame.header.type) + " " + std::to_string(frame.header.correlation) + " ";
      seen.append(reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size());
    }
    if (result == FrameDecoder::Result::kError) {
      require(!decoder.error().empty() && decoder.next(frame) == FrameDecoder::Result::kError);
      return seen + "error";
    }
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 20000) return 0;
  require(decode(data, size, size) == decode(data, size, 7));
  return 0;
}
