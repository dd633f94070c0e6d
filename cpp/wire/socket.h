// Thin, checked wrappers of the socket calls; all operating-system access of cpp/wire is here and in
// reactor.cc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

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

// "unix:/path", "unix:@name" is refused (abstract names outlive no process but bypass file modes);
// "tcp:1.2.3.4:80", "tcp:[::1]:80". Throws std::invalid_argument that names the address.
struct Endpoint {
  bool is_unix = false;
  std::string path;  // unix
  std::string host;  // tcp
  std::uint16_t port = 0;
};
Endpoint parse_endpoint(const std::string& address);

}  // namespace aktis::wire
