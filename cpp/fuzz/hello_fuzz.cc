// The payloads of the handshake: what decodes must encode to the same meaning, and be checkable.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "wire/handshake.h"

namespace {

using namespace aktis::wire;

void require(bool condition) {
  if (!condition) std::abort();
}

void try_hello(std::span<const std::byte> payload) {
  const auto hello = decode_hello(payload);
  if (!hello) return;
  HandshakePolicy policy;
  policy.token = "secret";
  policy.accepted_roles = {Role::kWorker};
  const auto reject = check_hello(*hello, policy);
  if (hello->major != kProtocolMajor) {
    require(reject && reject->code == RejectCode::kVersion);
    return;
  }
  require(hello->token.size() <= kMaxTokenBytes);
  require(reject || (hello->token == "secret" && hello->role == Role::kWorker));
  check_hello_ack(*hello, aktis::WorkerId{});
  const auto again = decode_hello(encode_hello(*hello));
  require(again && again->sender == hello->sender && again->token == hello->token &&
          again->pid == hello->pid);
}

void try_reject(std::span<const std::byte> payload) {
  const auto reject = decode_reject(payload);
  if (!reject) return;
  const auto again = decode_reject(encode_reject(*reject));
  require(again && again->code == reject->code && again->message == reject->message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> payload(reinterpret_cast<const std::byte*>(data), size);
  try_hello(payload);
  try_reject(payload);
  return 0;
}
