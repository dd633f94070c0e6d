#include "core/speculation.h"

#include <algorithm>
#include <cmath>

namespace aktis::core {
namespace {

constexpr double kMaxNs = 9e18;  // what fits; a clock that was set may have made it nearly that

}  // namespace

void Speculation::finished(std::chrono::nanoseconds run_time) {
  if (sample_ns_.size() < kSample) {
    sample_ns_.push_back(run_time.count());
    return;
  }
  sample_ns_[next_] = run_time.count();
  next_ = (next_ + 1) % kSample;
}

std::optional<std::chrono::nanoseconds> Speculation::limit(double quantile) const {
  if (sample_ns_.empty() || sample_ns_.size() < config_.min_finished) return std::nullopt;
  std::vector<std::int64_t> times = sample_ns_;
  const double rank = std::ceil(quantile * static_cast<double>(times.size()));
  const auto index = static_cast<std::size_t>(std::max(1.0, rank)) - 1;
  const auto place = times.begin() + static_cast<std::ptrdiff_t>(std::min(index, times.size() - 1));
  std::nth_element(times.begin(), place, times.end());
  const double usual_ns = std::min(config_.factor * static_cast<double>(*place), kMaxNs);
  const auto usual = std::chrono::nanoseconds(std::llround(usual_ns));
  return std::max(usual, config_.at_least);
}

std::size_t Speculation::allowed(std::size_t running, std::size_t copies) const {
  const auto share = static_cast<std::size_t>(config_.share * static_cast<double>(running));
  const std::size_t most = std::max<std::size_t>(1, share);
  return most > copies ? most - copies : 0;
}

}  // namespace aktis::core
