// The first frame on every connection: who speaks, in which version, with which token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wire/frame.h"
#include "wire/ids.h"

namespace aktis::wire {

inline constexpr std::uint32_t kMagic = 0x53544b41;  // "AKTS"
inline constexpr std::size_t kMaxTokenBytes = 256;

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

std::vector<std::byte> encode_hello(const Hello& hello);
std::optional<Hello> decode_hello(std::span<const std::byte> payload);
std::vector<std::byte> encode_reject(const Reject& reject);
std::optional<Reject> decode_reject(std::span<const std::byte> payload);

// Pure: the server's decision about a HELLO; empty when it is welcome. Compares tokens in constant time
// and never puts a token in a message.
std::optional<Reject> check_hello(const Hello& hello, const HandshakePolicy& policy);

}  // namespace aktis::wire
