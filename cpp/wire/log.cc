#include "wire/log.h"

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

namespace aktis::wire {
namespace {

const char* name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

void log_to_stderr(LogLevel level, std::string_view component, std::string_view message) {
  // One fwrite per line, so that lines of several threads do not mix.
  std::string line;
  line.append(name(level)).append(" ").append(component).append(": ").append(message).append("\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

struct Sink {
  std::mutex mutex;
  std::shared_ptr<const LogSink> current;
};

// Never destroyed: threads may still log while the process exits.
Sink& sink() {
  static Sink& instance = *new Sink{{}, std::make_shared<const LogSink>(log_to_stderr)};
  return instance;
}

}  // namespace

void set_log_sink(LogSink replacement) {
  auto next = std::make_shared<const LogSink>(replacement ? std::move(replacement) : LogSink(log_to_stderr));
  const std::lock_guard lock(sink().mutex);
  sink().current.swap(next);
}

void log(LogLevel level, std::string_view component, std::string_view message) {
  std::shared_ptr<const LogSink> current;
  {
    const std::lock_guard lock(sink().mutex);
    current = sink().current;
  }
  (*current)(level, component, message);
}

}  // namespace aktis::wire
