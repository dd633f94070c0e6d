#include "core/task_bell.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace aktis::core {
namespace {

int checked(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

}  // namespace

TaskBell::~TaskBell() {
  if (watch_ >= 0) ::close(watch_);
  if (event_ >= 0) ::close(event_);
}

int TaskBell::open(int reactor_fd) {
  if (watch_ >= 0) return watch_;
  if (event_ < 0) event_ = checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
  const int watch = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  for (const int fd : {reactor_fd, event_}) {
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.fd = fd;
    if (::epoll_ctl(watch, EPOLL_CTL_ADD, fd, &interest) != 0) {
      const int error = errno;
      ::close(watch);
      throw std::system_error(error, std::generic_category(), "epoll_ctl");
    }
  }
  watch_ = watch;
  return watch_;
}

void TaskBell::ring() {
  if (watch_ < 0 || rung_ || loop_polls_) return;
  rung_ = ::eventfd_write(event_, 1) == 0;
}

void TaskBell::quiet() {
  if (!rung_) return;
  eventfd_t count;
  ::eventfd_read(event_, &count);
  rung_ = false;
}

}  // namespace aktis::core
