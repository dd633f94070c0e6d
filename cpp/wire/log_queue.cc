#include "wire/log_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace aktis::wire {

LogQueue::LogQueue(std::size_t max_lines)
    : max_lines_(max_lines), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (!wake_) throw std::system_error(errno, std::generic_category(), "log queue: eventfd");
}

void LogQueue::put(LogLevel level, std::string_view component, std::string_view message) {
  const std::lock_guard lock(mutex_);
  if (lines_.size() >= max_lines_) {
    ++dropped_;
    return;
  }
  lines_.push_back({level, std::string(component), std::string(message)});
  if (lines_.size() > 1) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof(one));  // cannot overflow
}

std::vector<LogLine> LogQueue::drain() {
  const std::lock_guard lock(mutex_);
  std::uint64_t count;
  [[maybe_unused]] const auto got = ::read(wake_.get(), &count, sizeof(count));
  std::vector<LogLine> lines(std::make_move_iterator(lines_.begin()), std::make_move_iterator(lines_.end()));
  lines_.clear();
  if (dropped_ > 0) {
    lines.push_back(
        {LogLevel::kWarning, "log", std::to_string(dropped_) + " lines did not fit in the queue"});
    dropped_ = 0;
  }
  return lines;
}

}  // namespace aktis::wire
