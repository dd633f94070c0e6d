#include "wire/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <charconv>
#include <stdexcept>

namespace aktis::wire {

Endpoint parse_endpoint(const std::string& address) {
  const auto bad = [&](const std::string& why) {
    return std::invalid_argument("address \"" + address + "\": " + why);
  };
  Endpoint endpoint;
  if (address.starts_with("unix:")) {
    endpoint.is_unix = true;
    endpoint.path = address.substr(5);
    if (endpoint.path.empty() || endpoint.path[0] != '/') throw bad("an absolute path must follow unix:");
    if (endpoint.path.find('\0') != std::string::npos) throw bad("the path has a NUL character");
    if (endpoint.path.size() >= sizeof(sockaddr_un{}.sun_path)) {
      throw bad("the path has " + std::to_string(endpoint.path.size()) + " bytes, a socket's may have " +
                std::to_string(sizeof(sockaddr_un{}.sun_path) - 1) + "; use a shorter directory");
    }
    return endpoint;
  }
  if (!address.starts_with("tcp:")) throw bad("it must start with unix: or tcp:");
  const std::size_t colon = address.rfind(':');
  if (colon <= 4) throw bad("a host and a port must follow tcp:");
  endpoint.host = address.substr(4, colon - 4);
  if (endpoint.host.starts_with('[')) {
    if (!endpoint.host.ends_with(']')) throw bad("the bracket of the host is not closed");
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  }
  const char* first = address.data() + colon + 1;
  const char* last = address.data() + address.size();
  const auto [end, error] = std::from_chars(first, last, endpoint.port);
  if (first == last || end != last || error != std::errc{}) throw bad("the port must be 0 to 65535");
  in6_addr scratch;
  if (inet_pton(AF_INET, endpoint.host.c_str(), &scratch) != 1 &&
      inet_pton(AF_INET6, endpoint.host.c_str(), &scratch) != 1) {
    throw bad("the host must be a numeric IPv4 or IPv6 address");
  }
  return endpoint;
}

}  // namespace aktis::wire
