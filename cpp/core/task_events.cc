#include "core/task_events.h"

#include <unistd.h>

#include "core/proto_writer.h"

namespace aktis::core {
namespace {

constexpr std::size_t kMaxErrorBytes = 1024;

}  // namespace

void TaskEvents::set_identity(const WorkerId& worker, const NodeId& node, const JobId& job) {
  std::lock_guard guard(mutex_);
  worker_ = worker;
  node_ = node;
  job_ = job;
  pid_ = static_cast<std::uint32_t>(getpid());
}

bool TaskEvents::record(const TaskEvent& event, std::int64_t now_unix_ns) {
  std::lock_guard guard(mutex_);
  if (const auto second = now_unix_ns / 1'000'000'000; second != second_) {
    second_ = second;
    in_second_ = 0;
  }
  if (++in_second_ > kPerSecond || encoded_.size() > kMaxBytes) {
    ++dropped_;
    return false;
  }
  std::vector<std::byte> one;
  one.reserve(192);
  put_id(one, 1, event.task);
  put_id(one, 2, job_);
  put_id(one, 3, event.actor);
  put_id(one, 4, worker_);
  put_id(one, 5, node_);
  put_id(one, 6, event.parent);
  put_text(one, 7, event.name);
  put_number(one, 8, static_cast<std::uint64_t>(event.state));
  put_number(one, 9, static_cast<std::uint64_t>(event.start_unix_ns));
  put_number(one, 10, static_cast<std::uint64_t>(event.end_unix_ns));
  put_number(one, 11, event.attempt);
  put_text(one, 12, event.error, kMaxErrorBytes);
  put_number(one, 13, pid_);
  put_number(one, 14, event.is_creation ? 1 : 0);
  put_number(one, 15, event.by_owner ? 1 : 0);
  put_text(one, 16, event.extra_data);
  const bool first = encoded_.empty();
  put_bytes(encoded_, 1, one.data(), one.size());
  return first;
}

std::vector<std::byte> TaskEvents::take() {
  std::vector<std::byte> message;
  std::lock_guard guard(mutex_);
  if (encoded_.empty() && dropped_ == 0) return message;
  put_number(encoded_, 2, dropped_);
  put_bytes(message, 9, encoded_.data(), encoded_.size());  // ClientMessage.task_events
  encoded_.clear();
  dropped_ = 0;
  return message;
}

}  // namespace aktis::core
