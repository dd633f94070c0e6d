// Addresses from configuration and from other processes: parsed, or refused by name.
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "wire/endpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string address(reinterpret_cast<const char*>(data), size);
  try {
    const aktis::wire::Endpoint endpoint = aktis::wire::parse_endpoint(address);
    const bool fits_a_socket = endpoint.path.size() < 108 && endpoint.path.starts_with('/');
    if (endpoint.is_unix != endpoint.host.empty() || (endpoint.is_unix && !fits_a_socket)) std::abort();
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
