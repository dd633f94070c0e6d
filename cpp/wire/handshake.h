// The first frame on every connection: who speaks, in which version, with which token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wire/frame.h"
#include "wire/ids.h"
#include "wire/socket.h"

namespace aktis::wire {

inline constexpr std::uint32_t kMagic = 0x53544b41;  // "AKTS"
inline constexpr std::size_t kMaxTokenBytes = 256;
// Limit of any frame before a connection is open: a stranger cannot make us allocate more.
inline constexpr std::size_t kMaxHandshakePayloadBytes = 4096;

enum class Role : std::uint8_t {
  kDriver = 1,
  kWorker = 2,
  kTemplate = 3,
  kRaylet = 4,
  kPlasma = 5,
  kTool = 6
};

struct Hello {
  std::uint16_t major = kProtocolMajor;
  std::uint16_t minor = kProtocolMinor;
  Role role = Role::kTool;
  WorkerId sender;  // the speaking process; random per process, so it is its epoch
  NodeId node;
  WorkerId expected_peer;  // nil: any
  std::string token;       // the cluster's shared secret; empty only where the policy has none
  std::uint32_t pid = 0;
};

enum class RejectCode : std::uint16_t {
  kMalformed = 1,
  kVersion = 2,
  kToken = 3,
  kWrongPeer = 4,  // the caller expected another process behind this address
  kRole = 5,
  kBusy = 6,
};

struct Reject {
  RejectCode code = RejectCode::kMalformed;
  std::string message;  // says what was expected and what came
};

// What a server demands. `self` answers the HELLO. accepted_roles empty: every role.
struct HandshakePolicy {
  Hello self;
  std::string token;
  std::vector<Role> accepted_roles;
  std::optional<std::uint32_t> required_uid;  // SO_PEERCRED, Unix sockets only
};

const char* role_name(Role role);

// Throws std::invalid_argument when the token is longer than kMaxTokenBytes.
std::vector<std::byte> encode_hello(const Hello& hello);
// Empty when it is malformed. Of another major version only major and minor are filled in: its layout is
// not known, but check_hello() can say which version came.
std::optional<Hello> decode_hello(std::span<const std::byte> payload);
std::vector<std::byte> encode_reject(const Reject& reject);
std::optional<Reject> decode_reject(std::span<const std::byte> payload);

// Pure: the server's decision about a HELLO; empty when it is welcome. Compares tokens in constant time
// and never puts a token in a message.
std::optional<Reject> check_hello(const Hello& hello, const HandshakePolicy& policy);
// The same for what the kernel says about the peer of a Unix socket; checked before the HELLO.
std::optional<Reject> check_credentials(const PeerCredentials& peer, const HandshakePolicy& policy);
// The client's decision about a HELLO_ACK.
std::optional<Reject> check_hello_ack(const Hello& ack, const WorkerId& expected_peer);

}  // namespace aktis::wire
