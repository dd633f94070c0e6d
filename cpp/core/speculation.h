// When a task that has run for long is started a second time, beside its first run.
//
// Pure policy: no I/O and no clock; one for each scheduling class with such tasks. A straggler has run for
// `factor` times as long as the quantile, which its function asks for, of the run times of its siblings. It
// is judged only when enough of them have ended, and only a share of what runs may run twice.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace aktis::core {

struct SpeculationConfig {
  std::size_t min_finished = 5;  // siblings, before anything can be said about the others
  double factor = 1.5;           // a quantile alone would call some of any sample stragglers
  // A second run of what ends sooner costs more than it saves.
  std::chrono::nanoseconds at_least = std::chrono::milliseconds(100);
  double share = 0.1;  // of the running tasks that may run twice at a time; one always may
};

class Speculation {
 public:
  explicit Speculation(SpeculationConfig config = {}) : config_(config) {}

  // A task of the class has ended by itself after so long. Of these the last kSample count.
  void finished(std::chrono::nanoseconds run_time);
  // For how long a task may run before it is a straggler. None: nothing is known yet.
  std::optional<std::chrono::nanoseconds> limit(double quantile) const;
  // How many second runs may begin while so many tasks run and so many second runs.
  std::size_t allowed(std::size_t running, std::size_t copies) const;
  const SpeculationConfig& config() const { return config_; }

 private:
  static constexpr std::size_t kSample = 256;

  SpeculationConfig config_;
  std::vector<std::int64_t> sample_ns_;  // a ring, once it is full
  std::size_t next_ = 0;
};

}  // namespace aktis::core
