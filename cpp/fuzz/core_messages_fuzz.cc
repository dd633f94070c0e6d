// Every decoder of messages between workers, of values, and of the one field of the raylet's messages that
// the core reads. First byte: which.
#include <cstdint>

#include "fuzz/core_decoders.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  aktis::core::decodes(data[0], std::as_bytes(std::span(data + 1, size - 1)));
  return 0;
}
