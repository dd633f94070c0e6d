#include "plasma/warmer.h"

#include <pthread.h>
#include <signal.h>

namespace aktis::plasma {

Warmer::Warmer(const Arena& arena, Done done) : arena_(arena), done_(std::move(done)) {}

Warmer::~Warmer() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool Warmer::populate(PageRange range) {
  std::lock_guard lock(mutex_);
  if (busy_) return false;
  busy_ = true;
  range_ = range;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  wake_.notify_one();
  return true;
}

void Warmer::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "plasma-warmer");
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || range_.has_value(); });
    if (stopping_) return;
    const PageRange range = *range_;
    range_.reset();
    lock.unlock();
    const bool populated = arena_.populate(range.offset, range.length);
    lock.lock();
    busy_ = false;
    lock.unlock();
    done_(range, populated);
    lock.lock();
  }
}

}  // namespace aktis::plasma
