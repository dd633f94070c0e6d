// Every decoder of worker-to-worker messages, and the one field of the raylet's that the core reads: the
// first byte chooses which.
#include <cstdint>
#include <span>

#include "core/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace aktis::core;
  if (size == 0) return 0;
  const Bytes input(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0] % 16) {
    case 0:
      if (const auto task = decode_task(input)) {
        for (const auto& argument : task->arguments) parse_value(argument.value);
        parse_value(task->args);
      }
      break;
    case 1:
      if (const auto reply = decode_reply(input)) {
        for (const auto& value : reply->returns) parse_value(value.value);
        answers(*reply, static_cast<std::uint32_t>(reply->returns.size()));
      }
      break;
    case 2:
      decode_give_back(input);
      break;
    case 3:
      decode_object_value(input);
      break;
    case 4:
      decode_borrow(input);
      break;
    case 5:
      parse_value(input);
      break;
    case 6:
      if (const auto item = decode_stream_item(input)) parse_value(item->value.value);
      break;
    case 7:
      decode_stream_taken(input);
      break;
    case 8:
      decode_object_lost(input);
      break;
    case 9:
      decode_steal(input);
      break;
    case 10:
      decode_cancel(input);
      break;
    case 11:
      decode_object_get(input);
      break;
    case 12:
      decode_return_release(input);
      break;
    case 13:
      control_request_id(input);
      break;
    case 14:
      decode_overdue(input);
      break;
    case 15:
      decode_cancel_asked(input);
      break;
  }
  return 0;
}
