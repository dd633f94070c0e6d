// The control channel to the raylet: serialized protobuf messages in CONTROL frames, opaque here but for the
// request id, which is field 1 of every RayletMessage.
#include "core/core.h"
#include "core/delegates.h"
#include "wire/log.h"

namespace aktis::core {
namespace {

constexpr const char* kDoesNotRead = "the raylet does not read what it is sent";

std::string to_string(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

void Core::notify(Bytes message) {
  if (raylet_) send_control(0, message);
}

// Never waits. A raylet that does not read any more is as good as dead.
void Core::send_control(std::uint64_t correlation, Bytes message) {
  wire::FrameHeader header;
  header.type = static_cast<std::uint16_t>(wire::FrameType::kControl);
  header.correlation = correlation;
  if (raylet_->send(header, message) == wire::SendResult::kQueueFull) raylet_->close(kDoesNotRead);
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
  send_control(request, message);
}

void Core::end_call(std::uint64_t request) {
  Guard guard(mutex_);
  calls_.erase(request);
}

void Core::on_control(const wire::Frame& frame) {
  if (frame.header.type != static_cast<std::uint16_t>(wire::FrameType::kControl)) return;
  if (const std::uint64_t request = control_request_id(frame.payload); request != 0) {
    Guard guard(mutex_);
    const auto call = calls_.find(request);
    if (call != calls_.end()) {
      call->second->answer = to_string(frame.payload);
      call->second->waiter.complete();
      return;
    }
  }  // nobody waits: an answer for Python's own table, or one whose caller has given up
  if (events_.push({.kind = EventKind::kControl, .first = to_string(frame.payload)})) return;
  const std::string reason =
      "this process does not keep up with the raylet's messages: " + std::to_string(events_.control_bytes()) +
      " bytes of them wait already";
  wire::log(wire::LogLevel::kError, "core", "hanging up on the raylet: " + reason);
  raylet_->close(reason);
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

void Core::record_span(const TaskId& task, const std::string& name, const std::string& extra_data,
                       std::int64_t start_unix_ns, std::int64_t end_unix_ns) {
  const TaskEvent event{.task = task,
                        .name = name,
                        .state = TaskEvents::kProfile,
                        .start_unix_ns = start_unix_ns,
                        .end_unix_ns = end_unix_ns,
                        .error = {},
                        .extra_data = extra_data};
  if (task_events_.record(event, end_unix_ns)) arm_event_flush();
}

}  // namespace aktis::core
