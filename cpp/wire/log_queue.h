// A log sink for daemons whose logger is Python: native threads put lines in a bounded queue and never wait;
// the event loop is woken through a descriptor and drains it.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "wire/log.h"
#include "wire/socket.h"

namespace aktis::wire {

struct LogLine {
  LogLevel level = LogLevel::kInfo;
  std::string component;
  std::string message;
};

class LogQueue {
 public:
  // Throws std::system_error when no eventfd can be made.
  explicit LogQueue(std::size_t max_lines);

  int fd() const { return wake_.get(); }  // readable while lines are queued
  void put(LogLevel level, std::string_view component, std::string_view message);
  // What is queued, oldest first; a last line says how many did not fit, if any.
  std::vector<LogLine> drain();

 private:
  const std::size_t max_lines_;
  const UniqueFd wake_;
  std::mutex mutex_;
  std::deque<LogLine> lines_;  // guarded by mutex_
  std::uint64_t dropped_ = 0;  // guarded by mutex_
};

}  // namespace aktis::wire
