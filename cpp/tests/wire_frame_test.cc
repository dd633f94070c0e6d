#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/wire_test_support.h"
#include "wire/frame.h"

namespace aktis::wire {
namespace {

using Result = FrameDecoder::Result;

std::string encode(const FrameHeader& header, const std::string& payload) {
  std::string bytes(kHeaderBytes, '\0');
  FrameHeader filled = header;
  filled.payload_bytes = static_cast<std::uint32_t>(payload.size());
  encode_header(filled, reinterpret_cast<std::byte*>(bytes.data()));
  return bytes + payload;
}

// Gives `data` to the decoder as one or several receives.
void feed(FrameDecoder& decoder, std::string_view data) {
  while (!data.empty()) {
    const auto room = decoder.prepare();
    const std::size_t part = std::min(room.size(), data.size());
    std::memcpy(room.data(), data.data(), part);
    decoder.commit(part);
    data.remove_prefix(part);
  }
}

TEST(FrameTest, HeaderIsLittleEndianOnTheWire) {
  std::byte raw[kHeaderBytes];
  encode_header({0x04030201, 0x0605, 0x0807, 0x100f0e0d0c0b0a09}, raw);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(std::to_integer<int>(raw[i]), i + 1);
  const FrameHeader back = decode_header(raw);
  EXPECT_EQ(back.payload_bytes, 0x04030201u);
  EXPECT_EQ(back.type, 0x0605);
  EXPECT_EQ(back.flags, 0x0807);
  EXPECT_EQ(back.correlation, 0x100f0e0d0c0b0a09u);
}

TEST(FrameDecoderTest, NeedsTheWholeFrame) {
  FrameDecoder decoder;
  const std::string bytes = encode({0, 33, 5, 77}, "payload");
  Frame frame;
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    feed(decoder, bytes.substr(i, 1));
    ASSERT_EQ(decoder.next(frame), Result::kNeedMore) << i;
  }
  feed(decoder, bytes.substr(bytes.size() - 1));
  ASSERT_EQ(decoder.next(frame), Result::kFrame);
  EXPECT_EQ(frame.header.correlation, 77u);
  EXPECT_EQ(testing::text_of(frame.payload), "payload");
  EXPECT_EQ(decoder.buffered_bytes(), 0u);
}

TEST(FrameDecoderTest, FindsTheSameFramesHoweverTheStreamIsCut) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::string stream;
    std::vector<std::string> payloads;
    for (int i = 0; i < 40; ++i) {
      const std::size_t size = random() % 5 == 0 ? random() % 300000 : random() % 100;
      payloads.emplace_back(size, static_cast<char>('a' + i % 26));
      stream += encode({0, static_cast<std::uint16_t>(1 + i), 0, 0}, payloads.back());
    }
    FrameDecoder decoder;
    std::size_t found = 0;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t part = std::min<std::size_t>(1 + random() % 100000, stream.size() - at);
      feed(decoder, std::string_view(stream).substr(at, part));
      at += part;
      for (Frame frame; decoder.next(frame) == Result::kFrame; ++found) {
        ASSERT_EQ(frame.header.type, found + 1) << "seed " << seed;
        ASSERT_EQ(testing::text_of(frame.payload), payloads[found]) << "seed " << seed;
      }
    }
    ASSERT_EQ(found, payloads.size()) << "seed " << seed;
  }
}

TEST(FrameDecoderTest, RefusesALengthBeyondTheLimitBeforeThePayloadArrives) {
  FrameDecoder decoder(1000);
  std::string header(kHeaderBytes, '\0');
  encode_header({0xffffffffu, 40, 0, 0}, reinterpret_cast<std::byte*>(header.data()));
  feed(decoder, header);
  // Whatever the header claims, no more room than for ordinary reading.
  EXPECT_LE(decoder.prepare().size(), 128u << 10);
  Frame frame;
  EXPECT_EQ(decoder.next(frame), Result::kError);
  EXPECT_NE(decoder.error().find("4294967295"), std::string::npos) << decoder.error();
  EXPECT_NE(decoder.error().find("1000"), std::string::npos) << decoder.error();
  feed(decoder, encode({0, 40, 0, 0}, "fine"));
  EXPECT_EQ(decoder.next(frame), Result::kError) << "an error is final";
}

TEST(FrameDecoderTest, TheLimitItselfIsAccepted) {
  FrameDecoder decoder(1000);
  feed(decoder, encode({0, 40, 0, 0}, std::string(1000, 'x')));
  Frame frame;
  EXPECT_EQ(decoder.next(frame), Result::kFrame);
}

TEST(FrameDecoderTest, ALimitRaisedBetweenFramesHoldsForTheNext) {
  FrameDecoder decoder(4);
  feed(decoder, encode({0, 1, 0, 0}, "four") + encode({0, 2, 0, 0}, "more than four"));
  Frame frame;
  ASSERT_EQ(decoder.next(frame), Result::kFrame);
  decoder.set_max_payload_bytes(100);
  ASSERT_EQ(decoder.next(frame), Result::kFrame);
  EXPECT_EQ(testing::text_of(frame.payload), "more than four");
}

TEST(FrameDecoderTest, RefusesTypeZero) {
  FrameDecoder decoder;
  feed(decoder, std::string(kHeaderBytes, '\0'));
  Frame frame;
  EXPECT_EQ(decoder.next(frame), Result::kError);
}

TEST(FrameDecoderTest, OffersRoomForAllThatIsMissingOfALargeFrame) {
  FrameDecoder decoder;
  const std::string bytes = encode({0, 40, 0, 0}, std::string(10u << 20, 'x'));
  feed(decoder, bytes.substr(0, 100));
  EXPECT_GE(decoder.prepare().size(), bytes.size() - 100);
}

TEST(FrameDecoderTest, GivesALargeBufferBack) {
  FrameDecoder decoder;
  feed(decoder, encode({0, 40, 0, 0}, std::string(10u << 20, 'x')));
  Frame frame;
  ASSERT_EQ(decoder.next(frame), Result::kFrame);
  EXPECT_LE(decoder.prepare().size(), 128u << 10);
}

}  // namespace
}  // namespace aktis::wire
