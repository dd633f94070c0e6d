// What a client decodes of its store. First byte: which message.
#include <cstdint>

#include "plasma/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span payload(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  switch (data[0] % 4) {
    case 0:
      aktis::plasma::decode_arena(payload);
      break;
    case 1:
      aktis::plasma::decode_created(payload);
      break;
    case 2:
      aktis::plasma::decode_slab_grant(payload);
      break;
    default:
      aktis::plasma::decode_objects(payload);
  }
  return 0;
}
