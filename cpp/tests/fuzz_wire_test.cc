// Seeds for connections: every frame of the wire itself, on both sides.
#include <gtest/gtest.h>

#include <set>

#include "fuzz/connection_settings.h"
#include "tests/fuzz_corpus.h"
#include "wire/codec.h"
#include "wire/frame.h"
#include "wire/handshake.h"

namespace aktis::fuzz {
namespace {

using namespace aktis::wire;

class Input {
 public:
  explicit Input(int settings) { out_.u8(static_cast<std::uint8_t>(settings)); }
  Input& frame(std::uint16_t type, std::span<const std::byte> payload, std::uint16_t flags = 0) {
    std::byte header[kHeaderBytes];
    encode_header({static_cast<std::uint32_t>(payload.size()), type, flags, ++correlation_}, header);
    out_.raw(header, sizeof header).raw(payload.data(), payload.size());
    return *this;
  }
  Input& frame(FrameType type, std::span<const std::byte> payload = {}) {
    return frame(static_cast<std::uint16_t>(type), payload);
  }
  // What follows a handshake: frames of those who use the wire, and its own.
  Input& session() {
    const std::byte content[] = {std::byte{1}, std::byte{2}};
    frame(40, content).frame(FrameType::kPing).frame(FrameType::kPong).frame(FrameType::kControl, content);
    return frame(40, {}, 0xdead);
  }
  void expect(const std::string& name) const { expect_seed("connection_input_fuzz", name, out_.view()); }

 private:
  ByteWriter out_;
  std::uint64_t correlation_ = 0;
};

std::vector<std::byte> hello(const std::string& token = {}) {
  Hello hello;
  hello.role = Role::kWorker;
  std::fill_n(hello.sender.data, sizeof hello.sender.data, std::uint8_t{7});
  hello.token = token;
  hello.pid = 1;
  return encode_hello(hello);
}

TEST(WireSeeds, EverySideOfAHandshake) {
  Input(0).frame(FrameType::kHello, hello()).session().expect("session");
  Input(kWantsToken).frame(FrameType::kHello, hello(kToken)).session().expect("session-token");
  Input(kWantsToken).frame(FrameType::kHello, hello("guess")).session().expect("wrong-token");
  Input(0).frame(FrameType::kHello, hello()).frame(FrameType::kHello, hello()).expect("hello-twice");
  Input(0).session().expect("no-hello");
  Input(kDialled).frame(FrameType::kHelloAck, hello()).session().expect("dialled");
  Input(kDialled)
      .frame(FrameType::kHelloReject, encode_reject({RejectCode::kBusy, "busy"}))
      .expect("refused");
  Input(kDialled).session().expect("no-answer");
  const std::vector<std::byte> large(2001);
  Input(0).frame(FrameType::kHello, hello()).frame(40, large).expect("too-large");
  Input pings(0);
  pings.frame(FrameType::kHello, hello());
  for (int i = 0; i < 300; ++i) pings.frame(FrameType::kPing);
  pings.expect("pings");
}

TEST(WireSeeds, Descriptors) {
  const int takes = kTakesDescriptor | kDescriptor;
  Input(takes).frame(FrameType::kHello, hello()).session().expect("descriptor");
  Input(takes | kDescriptors).frame(FrameType::kHello, hello()).session().expect("descriptors");
  Input(takes).session().expect("descriptor-before-hello");
  Input(kDialled | takes).frame(FrameType::kHelloAck, hello()).session().expect("dialled-descriptor");
}

TEST(WireSeeds, EveryFrameOccurs) {
  std::set<std::uint16_t> seen;
  for (const auto& [name, seed] : seeds_of("connection_input_fuzz")) {
    FrameDecoder decoder;
    const auto room = decoder.prepare();
    std::copy(seed.begin() + 1, seed.end(), room.begin());
    decoder.commit(seed.size() - 1);
    for (Frame frame; decoder.next(frame) == FrameDecoder::Result::kFrame;) seen.insert(frame.header.type);
  }
  for (const FrameType type : {FrameType::kHello, FrameType::kHelloAck, FrameType::kHelloReject,
                               FrameType::kPing, FrameType::kPong, FrameType::kControl}) {
    EXPECT_TRUE(seen.contains(static_cast<std::uint16_t>(type))) << "no seed has " << static_cast<int>(type);
  }
}

}  // namespace
}  // namespace aktis::fuzz
