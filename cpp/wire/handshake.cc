#include "wire/handshake.h"

#include <algorithm>
#include <stdexcept>

#include "wire/codec.h"

namespace aktis::wire {
namespace {

constexpr std::size_t kMaxRejectMessageBytes = 1024;

// Time depends on the length of what the peer sent (known to it), not on where the first difference is.
bool same_secret(std::string_view expected, std::string_view presented) {
  volatile unsigned difference = expected.size() == presented.size() ? 0u : 1u;
  for (std::size_t i = 0; i < presented.size(); ++i) {
    const char against = expected.empty() ? '\0' : expected[i % expected.size()];
    difference = difference | static_cast<unsigned char>(against ^ presented[i]);
  }
  return difference == 0;
}

std::optional<Reject> check_version(const Hello& hello, const char* whose) {
  if (hello.major == kProtocolMajor) return std::nullopt;
  return Reject{RejectCode::kVersion, std::string("protocol version ") + std::to_string(kProtocolMajor) +
                                          "." + std::to_string(kProtocolMinor) + " is spoken here, " + whose +
                                          " speaks " + std::to_string(hello.major) + "." +
                                          std::to_string(hello.minor) +
                                          "; install the same release of Aktis on both sides"};
}

}  // namespace

const char* role_name(Role role) {
  switch (role) {
    case Role::kDriver:
      return "driver";
    case Role::kWorker:
      return "worker";
    case Role::kTemplate:
      return "template";
    case Role::kRaylet:
      return "raylet";
    case Role::kPlasma:
      return "plasma";
    case Role::kTool:
      return "tool";
  }
  return "unknown";
}

std::vector<std::byte> encode_hello(const Hello& hello) {
  if (hello.token.size() > kMaxTokenBytes) {
    throw std::invalid_argument("the cluster token has " + std::to_string(hello.token.size()) +
                                " bytes, at most " + std::to_string(kMaxTokenBytes) + " are allowed");
  }
  ByteWriter writer;
  writer.u32(kMagic).u16(hello.major).u16(hello.minor).u8(static_cast<std::uint8_t>(hello.role));
  writer.id(hello.sender).id(hello.node).id(hello.expected_peer).u32(hello.pid).text(hello.token);
  return writer.take();
}

std::optional<Hello> decode_hello(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  if (reader.u32() != kMagic) return std::nullopt;
  Hello hello;
  hello.major = reader.u16();
  hello.minor = reader.u16();
  if (!reader.ok()) return std::nullopt;
  if (hello.major != kProtocolMajor) return hello;
  const std::uint8_t role = reader.u8();
  if (role < static_cast<std::uint8_t>(Role::kDriver) || role > static_cast<std::uint8_t>(Role::kTool)) {
    return std::nullopt;
  }
  hello.role = static_cast<Role>(role);
  hello.sender = reader.id<WorkerId>();
  hello.node = reader.id<NodeId>();
  hello.expected_peer = reader.id<WorkerId>();
  hello.pid = reader.u32();
  hello.token = reader.text(kMaxTokenBytes);
  if (!reader.ok()) return std::nullopt;  // bytes that follow belong to a newer minor version
  return hello;
}

std::vector<std::byte> encode_reject(const Reject& reject) {
  ByteWriter writer;
  writer.u16(static_cast<std::uint16_t>(reject.code));
  writer.text(std::string_view(reject.message).substr(0, kMaxRejectMessageBytes));
  return writer.take();
}

std::optional<Reject> decode_reject(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  const std::uint16_t code = reader.u16();
  const std::string_view message = reader.text(kMaxRejectMessageBytes);
  if (!reader.ok() || code < static_cast<std::uint16_t>(RejectCode::kMalformed) ||
      code > static_cast<std::uint16_t>(RejectCode::kBusy)) {
    return std::nullopt;
  }
  return Reject{static_cast<RejectCode>(code), std::string(message)};
}

std::optional<Reject> check_hello(const Hello& hello, const HandshakePolicy& policy) {
  if (auto reject = check_version(hello, "the peer")) return reject;
  // Before anything that would tell a stranger who we are.
  if (!policy.token.empty() && !same_secret(policy.token, hello.token)) {
    return Reject{RejectCode::kToken, hello.token.empty()
                                          ? "a cluster token is required and none came"
                                          : "the cluster token is not the one of this cluster"};
  }
  if (!hello.expected_peer.is_nil() && hello.expected_peer != policy.self.sender) {
    return Reject{RejectCode::kWrongPeer, "process " + hello.expected_peer.hex() +
                                              " was expected at this address, it is now process " +
                                              policy.self.sender.hex()};
  }
  const auto& roles = policy.accepted_roles;
  if (!roles.empty() && std::find(roles.begin(), roles.end(), hello.role) == roles.end()) {
    std::string accepted;
    for (const Role role : roles) accepted += (accepted.empty() ? "" : ", ") + std::string(role_name(role));
    return Reject{RejectCode::kRole, std::string("the role ") + role_name(hello.role) +
                                         " is not accepted here, only: " + accepted};
  }
  return std::nullopt;
}

std::optional<Reject> check_credentials(const PeerCredentials& peer, const HandshakePolicy& policy) {
  if (!policy.required_uid || !peer.known || peer.uid == *policy.required_uid) return std::nullopt;
  return Reject{RejectCode::kRole, "only processes of user id " + std::to_string(*policy.required_uid) +
                                       " are accepted here, the peer has user id " +
                                       std::to_string(peer.uid)};
}

std::optional<Reject> check_hello_ack(const Hello& ack, const WorkerId& expected_peer) {
  if (auto reject = check_version(ack, "the server")) return reject;
  if (!expected_peer.is_nil() && ack.sender != expected_peer) {
    return Reject{RejectCode::kWrongPeer, "process " + expected_peer.hex() +
                                              " was expected at this address, it is now process " +
                                              ack.sender.hex()};
  }
  return std::nullopt;
}

}  // namespace aktis::wire
