// The version of the frames between workers, their raylet and the store.
#pragma once

#include <cstdint>

namespace aktis {

// Peers with different protocol versions refuse each other in the handshake. Raise it with every change
// of a frame layout or of its meaning.
inline constexpr std::uint32_t kProtocolVersion = 1;

}  // namespace aktis
