#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "wire/connection.h"
#include "wire/log.h"

namespace aktis::wire {
namespace {

constexpr int kMaxAcceptsPerEvent = 64;  // then other descriptors get their turn
constexpr std::chrono::milliseconds kPauseWithoutDescriptors{100};

}  // namespace

struct Listener::Impl {
  Reactor& reactor;
  const Endpoint endpoint;
  std::string address;
  const OnAccept on_accept;
  const std::uint64_t fork_generation = wire::fork_generation();
  dev_t device = 0;
  ino_t inode = 0;

  std::mutex mutex;  // guards fd
  UniqueFd fd;

  void remember_file();
  void remove_file() const;
  UniqueFd accept_next(int& error);
};

// Remembers which file is ours, so that close() does not remove that of a successor.
void Listener::Impl::remember_file() {
  struct stat found{};
  if (endpoint.is_unix && lstat(endpoint.path.c_str(), &found) == 0) {
    device = found.st_dev;
    inode = found.st_ino;
  }
}

void Listener::Impl::remove_file() const {
  struct stat found{};
  if (!endpoint.is_unix || fork_generation != wire::fork_generation()) return;
  if (lstat(endpoint.path.c_str(), &found) == 0 && found.st_dev == device && found.st_ino == inode) {
    ::unlink(endpoint.path.c_str());
  }
}

UniqueFd Listener::Impl::accept_next(int& error) {
  const std::lock_guard lock(mutex);
  error = EAGAIN;
  return fd ? accept_from(fd.get(), endpoint.is_unix, error) : UniqueFd();
}

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Listener::~Listener() {
  // Without close() only when the reactor has gone already: then it must not be called.
  if (impl_->fd) impl_->remove_file();
}

std::shared_ptr<Listener> Listener::listen(Reactor& reactor, const std::string& address, OnAccept on_accept) {
  const Endpoint endpoint = parse_endpoint(address);
  UniqueFd fd = listen_on(endpoint, address);
  std::string actual = address;
  if (!endpoint.is_unix && endpoint.port == 0) {
    actual = address.substr(0, address.rfind(':') + 1) + std::to_string(bound_port(fd.get()));
  }
  const int raw_fd = fd.get();
  auto impl = std::unique_ptr<Impl>(new Impl{.reactor = reactor,
                                             .endpoint = endpoint,
                                             .address = actual,
                                             .on_accept = std::move(on_accept),
                                             .mutex = {},
                                             .fd = std::move(fd)});
  impl->remember_file();
  std::shared_ptr<Listener> listener(new Listener(std::move(impl)));
  reactor.add(raw_fd, EPOLLIN, listener);
  return listener;
}

const std::string& Listener::address() const { return impl_->address; }

void Listener::close() {
  if (impl_->fork_generation != wire::fork_generation()) return;
  UniqueFd fd;
  {
    const std::lock_guard lock(impl_->mutex);
    fd = std::move(impl_->fd);
  }
  if (!fd) return;
  impl_->reactor.remove(fd.get());
  impl_->remove_file();
}

void Listener::on_ready(std::uint32_t) {
  for (int i = 0; i < kMaxAcceptsPerEvent; ++i) {
    int error = 0;
    UniqueFd accepted = impl_->accept_next(error);
    if (accepted) {
      const PeerCredentials peer = peer_credentials(accepted.get());
      impl_->on_accept(std::move(accepted), peer);
      continue;
    }
    if (error == EAGAIN) return;
    if (error == ECONNABORTED) continue;  // that client has gone again
    log(LogLevel::kError, "wire", "cannot accept on " + impl_->address + ": " + std::strerror(error));
    // Level-triggered: without a pause the poller would spin until descriptors are free again.
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->fd) return;
    impl_->reactor.modify(impl_->fd.get(), 0);
    impl_->reactor.call_after(kPauseWithoutDescriptors, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self) return;
      const std::lock_guard relock(self->impl_->mutex);
      if (self->impl_->fd) self->impl_->reactor.modify(self->impl_->fd.get(), EPOLLIN);
    });
    return;
  }
}

}  // namespace aktis::wire
