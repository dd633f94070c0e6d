// What a worker or driver decodes of other processes, by the type of its frame: for the fuzz target and for
// the test that every kind has a seed. The compiler misses a kind that is not here.
#pragma once

#include <optional>

#include "core/messages.h"

namespace aktis::core {

inline constexpr std::uint8_t kValueInput = 0;     // no frame: a serialized value
inline constexpr std::uint8_t kControlInput = 16;  // wire::FrameType::kControl

// Whether the payload is such a message; nullopt when there is no such kind.
inline std::optional<bool> decodes(std::uint8_t kind, Bytes payload) {
  if (kind == kValueInput) return parse_value(payload).has_value();
  if (kind == kControlInput) return control_request_id(payload) != 0;
  switch (static_cast<CoreFrame>(kind)) {
    case CoreFrame::kTask: {
      const auto task = decode_task(payload);
      if (!task) return false;
      for (const auto& argument : task->arguments) parse_value(argument.value);
      return parse_value(task->args).has_value();
    }
    case CoreFrame::kTaskReply: {
      const auto reply = decode_reply(payload);
      return reply && answers(*reply, static_cast<std::uint32_t>(reply->returns.size()));
    }
    case CoreFrame::kGiveBack:
      return decode_give_back(payload).has_value();
    case CoreFrame::kSteal:
      return decode_steal(payload).has_value();
    case CoreFrame::kCancel:
      return decode_cancel(payload).has_value();
    case CoreFrame::kObjectGet:
      return decode_object_get(payload).has_value();
    case CoreFrame::kObjectValue:
    case CoreFrame::kObjectFree:
      return decode_object_value(payload).has_value();
    case CoreFrame::kBorrowAdd:
    case CoreFrame::kBorrowAck:
    case CoreFrame::kBorrowNack:
    case CoreFrame::kBorrowRemove:
      return decode_borrow(payload).has_value();
    case CoreFrame::kReturnRelease:
      return decode_return_release(payload).has_value();
    case CoreFrame::kObjectLost:
      return decode_object_lost(payload).has_value();
    case CoreFrame::kStreamItem:
      return decode_stream_item(payload).has_value();
    case CoreFrame::kStreamTaken:
      return decode_stream_taken(payload).has_value();
    case CoreFrame::kOverdue:
      return decode_overdue(payload).has_value();
    case CoreFrame::kCancelAsked:
      return decode_cancel_asked(payload).has_value();
  }
  return std::nullopt;
}

}  // namespace aktis::core
