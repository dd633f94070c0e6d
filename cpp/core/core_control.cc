// The control channel to the raylet: serialized protobuf messages in CONTROL frames, opaque here but for the
// request id, which is field 1 of every RayletMessage.
#include "core/core.h"
#include "core/delegates.h"

namespace aktis::core {
namespace {

// The varint of field 1, when the message starts with it; 0 otherwise (not an answer).
std::uint64_t request_id_of(Bytes message) {
  if (message.empty() || message[0] != std::byte{0x08}) return 0;
  std::uint64_t value = 0;
  for (std::size_t i = 1, shift = 0; i < message.size() && shift < 64; ++i, shift += 7) {
    value |= static_cast<std::uint64_t>(message[i] & std::byte{0x7f}) << shift;
    if ((message[i] & std::byte{0x80}) == std::byte{0}) return value;
  }
  return 0;
}

std::string to_string(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

void Core::notify(Bytes message) {
  const auto raylet = raylet_;
  if (!raylet) return;
  wire::FrameHeader header;
  header.type = static_cast<std::uint16_t>(wire::FrameType::kControl);
  raylet->send(header, message);
}

void Core::begin_call(std::uint64_t request, Bytes message, Call& call) {
  {
    Guard guard(mutex_);
    if (raylet_lost_ || closed_ || !raylet_) {
      call.failed = true;
      call.waiter.complete();
      return;
    }
    calls_[request] = &call;
  }
  wire::FrameHeader header;
  header.type = static_cast<std::uint16_t>(wire::FrameType::kControl);
  header.correlation = request;
  raylet_->send(header, message);
}

void Core::end_call(std::uint64_t request) {
  Guard guard(mutex_);
  calls_.erase(request);
}

void Core::on_control(const wire::Frame& frame) {
  if (frame.header.type != static_cast<std::uint16_t>(wire::FrameType::kControl)) return;
  if (const std::uint64_t request = request_id_of(frame.payload); request != 0) {
    Guard guard(mutex_);
    const auto call = calls_.find(request);
    if (call == calls_.end()) return;  // its caller has given up
    call->second->answer = to_string(frame.payload);
    call->second->waiter.complete();
    return;
  }
  events_.push({.kind = EventKind::kControl, .first = to_string(frame.payload)});
}

void Core::on_raylet_closed(const std::string& reason) {
  Guard guard(mutex_);
  raylet_lost_ = true;
  for (auto& [request, call] : calls_) {
    call->failed = true;
    call->waiter.complete();
  }
  guard.unlock();
  if (!closed_) events_.push({.kind = EventKind::kRayletLost, .text = reason});
}

void Core::flush_task_events() {
  const auto message = task_events_.take();
  if (!message.empty()) notify(message);
}

void Core::record_span(const std::string& name, std::int64_t start_unix_ns, std::int64_t end_unix_ns) {
  const TaskEvent event{.task = current_task,
                        .name = name,
                        .state = TaskEvents::kProfile,
                        .start_unix_ns = start_unix_ns,
                        .end_unix_ns = end_unix_ns,
                        .error = {}};
  if (task_events_.record(event, end_unix_ns)) arm_event_flush();
}

}  // namespace aktis::core
