// Whether to look again and again for a moment before going to sleep.
//
// Two processes that answer each other at once spend most of a call on going to sleep and being woken. Who
// looks for a moment first needs neither, but takes a processor from somebody who may have use for it. So
// it is done only while waits are short: while most of the last ones, spun or slept, ended within twice the
// moment that is spent at most. A process whose answers take longer, or that has nothing to do, never spins.
// Pure; belongs to the poller.
#pragma once

#include <chrono>

namespace aktis::wire {

class Patience {
 public:
  // `spin`: how long to look at most; zero never looks.
  explicit Patience(std::chrono::nanoseconds spin) : spin_(spin) {}

  bool worth_spinning() const { return spin_.count() > 0 && short_share_ > 0.5; }
  std::chrono::nanoseconds spin() const { return spin_; }
  // A wait has ended after so long.
  void waited(std::chrono::nanoseconds time) {
    short_share_ += ((time < 2 * spin_ ? 1.0 : 0.0) - short_share_) / 8;
  }

 private:
  std::chrono::nanoseconds spin_;
  double short_share_ = 0;  // of the last waits, the newest weighing most
};

}  // namespace aktis::wire
