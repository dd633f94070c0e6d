#include "wire/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace aktis::wire {
namespace {

constexpr int kBacklog = 1024;
constexpr std::size_t kMaxFdsPerMessage = 16;

std::atomic<std::uint64_t> forks{0};

[[maybe_unused]] const int fork_handler_installed =
    pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

// Calls until a signal no longer interrupts; the result or -errno.
template <typename Call>
ssize_t retry(Call call) {
  for (;;) {
    const ssize_t result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress socket_address(const Endpoint& endpoint) {
  SocketAddress result;
  if (endpoint.is_unix) {
    auto* address = reinterpret_cast<sockaddr_un*>(&result.storage);
    address->sun_family = AF_UNIX;
    std::memcpy(address->sun_path, endpoint.path.data(), endpoint.path.size());
    result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + endpoint.path.size() + 1);
    return result;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
  if (inet_pton(AF_INET, endpoint.host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(endpoint.port);
    result.length = sizeof(sockaddr_in);
    return result;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
  if (inet_pton(AF_INET6, endpoint.host.c_str(), &v6->sin6_addr) != 1) {
    throw std::invalid_argument("not a numeric host: " + endpoint.host);
  }
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(endpoint.port);
  result.length = sizeof(sockaddr_in6);
  return result;
}

// Small frames must not wait for an acknowledgement of earlier ones.
void disable_nagle(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

UniqueFd new_socket(const SocketAddress& address) {
  return UniqueFd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

[[noreturn]] void throw_errno(int error, const std::string& what) {
  throw std::system_error(error, std::system_category(), what);
}

// True when a socket file is left over from a process that is gone, and was removed.
bool remove_stale_socket(const Endpoint& endpoint, const SocketAddress& address) {
  struct stat found{};
  if (lstat(endpoint.path.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) return false;
  const UniqueFd probe = new_socket(address);
  if (!probe || ::connect(probe.get(), address.get(), address.length) == 0 || errno != ECONNREFUSED)
    return false;
  return ::unlink(endpoint.path.c_str()) == 0;
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

PeerCredentials peer_credentials(int fd) {
  ucred raw{};
  socklen_t length = sizeof(raw);
  // A TCP socket answers too, with pid 0 and uid -1: that is "not known".
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &raw, &length) != 0 || raw.pid == 0) return {};
  return {true, raw.pid, raw.uid, raw.gid};
}

ConnectStart start_connect(const Endpoint& endpoint) {
  const SocketAddress address = socket_address(endpoint);
  ConnectStart start{new_socket(address), 0};
  if (!start.fd) {
    start.error = errno;
    return start;
  }
  if (!endpoint.is_unix) disable_nagle(start.fd.get());
  if (::connect(start.fd.get(), address.get(), address.length) != 0) {
    start.error = errno == EINTR ? EINPROGRESS : errno;
  }
  return start;
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

UniqueFd listen_on(const Endpoint& endpoint, const std::string& address_text) {
  const SocketAddress address = socket_address(endpoint);
  UniqueFd fd = new_socket(address);
  if (!fd) throw_errno(errno, "cannot make a socket for " + address_text);
  if (endpoint.is_unix) {
    // The file inherits the socket's mode when it is bound: no moment at which others could connect.
    if (fchmod(fd.get(), 0600) != 0) throw_errno(errno, "cannot restrict the mode of " + address_text);
  } else {
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  }
  int result = ::bind(fd.get(), address.get(), address.length);
  if (result != 0 && errno == EADDRINUSE && endpoint.is_unix && remove_stale_socket(endpoint, address)) {
    result = ::bind(fd.get(), address.get(), address.length);
  }
  if (result != 0) {
    const int error = errno;
    const bool taken = error == EADDRINUSE;
    throw_errno(error, "cannot listen on " + address_text +
                           (taken ? " (another process listens there, or a file is in the way)" : ""));
  }
  if (::listen(fd.get(), kBacklog) != 0) throw_errno(errno, "cannot listen on " + address_text);
  return fd;
}

std::uint16_t bound_port(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return 0;
  if (storage.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  if (storage.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port);
  return 0;
}

UniqueFd accept_from(int listener_fd, bool is_unix, int& error) {
  const ssize_t result =
      retry([&] { return ::accept4(listener_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
  error = result < 0 ? static_cast<int>(-result) : 0;
  if (result < 0) return {};
  UniqueFd fd(static_cast<int>(result));
  if (!is_unix) disable_nagle(fd.get());
  return fd;
}

ssize_t receive(int fd, std::span<std::byte> room) {
  return retry([&] { return ::recv(fd, room.data(), room.size(), MSG_DONTWAIT); });
}

ssize_t receive_with_fds(int fd, std::span<std::byte> room, std::size_t max_fds, std::vector<UniqueFd>& fds,
                         bool& fds_truncated) {
  iovec part{room.data(), room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(sizeof(int) * std::min(max_fds, kMaxFdsPerMessage));
  const ssize_t received = retry([&] { return ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  if (received < 0) return received;
  std::size_t count = 0;
  for (cmsghdr* part_of = CMSG_FIRSTHDR(&message); part_of != nullptr;
       part_of = CMSG_NXTHDR(&message, part_of)) {
    if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t here = (part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < here; ++i) {
      int raw;
      std::memcpy(&raw, CMSG_DATA(part_of) + i * sizeof(int), sizeof(int));
      fds.emplace_back(raw);
    }
    count += here;
  }
  // CMSG_SPACE rounds up, so that one more than asked for may have had room.
  fds_truncated = (message.msg_flags & MSG_CTRUNC) != 0 || count > max_fds;
  return received;
}

ssize_t send_vector(int fd, std::span<const iovec> parts, std::span<const int> fds) {
  if (fds.size() > kMaxFdsPerMessage) return -EINVAL;
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage)];
  if (!fds.empty()) {
    std::memset(control, 0, sizeof(control));
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  return retry([&] { return ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
}

std::uint64_t fork_generation() { return forks.load(std::memory_order_relaxed); }

}  // namespace aktis::wire
