// Where a socket listens or connects to, as people and configuration write it.
#pragma once

#include <cstdint>
#include <string>

namespace aktis::wire {

// "unix:/path"; "tcp:1.2.3.4:80" or "tcp:[::1]:80", the host always numeric.
struct Endpoint {
  bool is_unix = false;
  std::string path;  // unix
  std::string host;  // tcp
  std::uint16_t port = 0;
};

// Throws std::invalid_argument that names the address. "unix:@name" is refused: abstract names bypass file
// modes.
Endpoint parse_endpoint(const std::string& address);

}  // namespace aktis::wire
