// Where native code reports what an operator should know (a refused peer, a listener out of
// descriptors). Rare events only: nothing on a per-frame path logs.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace aktis::wire {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

using LogSink = std::function<void(LogLevel level, std::string_view component, std::string_view message)>;

// Replaces the sink; an empty one restores the default (one line on stderr). Any thread. The sink may be
// called from any thread, also while the replaced one is still running elsewhere. It must not throw.
void set_log_sink(LogSink sink);

void log(LogLevel level, std::string_view component, std::string_view message);

}  // namespace aktis::wire
