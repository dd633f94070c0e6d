// A thread that takes page faults, so that the store's thread and the clients do not.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "plasma/arena.h"
#include "plasma/warmth.h"

namespace aktis::plasma {

class Warmer {
 public:
  // `done` is called on the warmer's thread after each range; false: the machine has no memory left.
  using Done = std::function<void(PageRange range, bool populated)>;
  Warmer(const Arena& arena, Done done);
  ~Warmer();  // waits for the range under way

  // One range at a time: false while the last one is under way. Starts the thread with the first one.
  bool populate(PageRange range);

 private:
  void run();

  const Arena& arena_;
  const Done done_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::optional<PageRange> range_;  // guarded by mutex_
  bool busy_ = false;               // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace aktis::plasma
