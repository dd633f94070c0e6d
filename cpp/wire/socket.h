// Thin, checked wrappers of the socket calls; all operating-system access of cpp/wire is here and in
// reactor.cc.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "wire/endpoint.h"

namespace aktis::wire {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd();
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct PeerCredentials {
  bool known = false;
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

PeerCredentials peer_credentials(int fd);

// What follows works on non-blocking, close-on-exec sockets and repeats calls that a signal interrupted.

// A started connection. error: 0 connected; EINPROGRESS: wait until writable, then ask socket_error();
// EAGAIN: the listener's backlog is full (Unix), try again later with a new call; else the errno.
struct ConnectStart {
  UniqueFd fd;
  int error = 0;
};
ConnectStart start_connect(const Endpoint& endpoint);
int socket_error(int fd);  // SO_ERROR: the outcome of a connect

// Binds and listens; a Unix socket file gets mode 0600. A socket file that nobody listens on is replaced.
// Throws std::system_error that names the address.
UniqueFd listen_on(const Endpoint& endpoint, const std::string& address);
std::uint16_t bound_port(int fd);

// The next waiting connection; not a descriptor when there is none or `error` (errno) says why.
UniqueFd accept_from(int listener_fd, bool is_unix, int& error);

// Bytes received; 0 at the end of the stream; -errno. Descriptors that came along are appended to `fds`
// when it is given (else the kernel drops them); `fds_truncated`: more came than max_fds.
ssize_t receive(int fd, std::span<std::byte> room);
ssize_t receive_with_fds(int fd, std::span<std::byte> room, std::size_t max_fds, std::vector<UniqueFd>& fds,
                         bool& fds_truncated);

// Bytes sent, possibly fewer than given; -errno. Never raises SIGPIPE.
ssize_t send_vector(int fd, std::span<const iovec> parts, std::span<const int> fds = {});

// Counts the forks that this process has gone through since it was loaded: an object that remembers the
// number it was made under knows without a system call that it is in a forked child.
std::uint64_t fork_generation();

}  // namespace aktis::wire
