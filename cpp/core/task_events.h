// Task events of this process, bounded and sampled, encoded as the protobuf message TaskEventBatch by hand:
// no Python, no protobuf library on this path.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "wire/ids.h"

namespace aktis::core {

struct TaskEvent {
  TaskId task;
  TaskId parent;
  ActorId actor;
  std::string_view name;
  int state = 0;  // TaskEvent.State in common.proto
  std::int64_t start_unix_ns = 0;
  std::int64_t end_unix_ns = 0;
  std::uint32_t attempt = 0;
  std::string_view error;
  bool is_creation = false;
  bool by_owner = false;        // it ended without its executor
  std::string_view extra_data;  // JSON of a span: its size is bounded where it comes from, a part is no JSON
};

class TaskEvents {
 public:
  static constexpr int kFinished = 3, kFailed = 4, kCancelled = 5, kProfile = 6;

  void set_identity(const WorkerId& worker, const NodeId& node, const JobId& job);
  // At most `kPerSecond` a second are kept, the rest counted as dropped. True when the caller should see to
  // it that take() is called within about a second.
  bool record(const TaskEvent& event, std::int64_t now_unix_ns);
  // A serialized ClientMessage{task_events}; empty when there is nothing to tell.
  std::vector<std::byte> take();

 private:
  static constexpr std::uint32_t kPerSecond = 2000;
  static constexpr std::size_t kMaxBytes = 1 << 20;

  std::mutex mutex_;
  std::vector<std::byte> encoded_;  // repeated TaskEvent events = 1
  std::uint64_t dropped_ = 0;
  std::int64_t second_ = 0;
  std::uint32_t in_second_ = 0;
  WorkerId worker_;
  NodeId node_;
  JobId job_;
  std::uint32_t pid_ = 0;
};

}  // namespace aktis::core
