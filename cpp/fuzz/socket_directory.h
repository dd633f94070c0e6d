// Where a fuzz target that needs sockets has them; gone when the process ends.
#pragma once

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "wire/socket.h"

namespace aktis::fuzz {

class SocketDirectory {
 public:
  SocketDirectory() {
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~SocketDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/aktis-fuzz-XXXXXX";
};

// Connected to who listens at the path.
inline wire::UniqueFd connect_to(const std::string& path) {
  wire::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) std::abort();
  return fd;
}

}  // namespace aktis::fuzz
