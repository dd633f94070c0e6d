#include <gtest/gtest.h>

#include "wire/codec.h"
#include "wire/ids.h"

namespace aktis::wire {
namespace {

TEST(CodecTest, ReadsBackWhatWasWritten) {
  const WorkerId id = WorkerId::random();
  ByteWriter writer;
  writer.u8(1).u16(2).u32(3).u64(4).i64(-5).number(2.5).text("text").id(id);
  writer.blob(std::as_bytes(std::span("blob", 4)));
  ByteReader reader(writer.view());
  EXPECT_EQ(reader.u8(), 1);
  EXPECT_EQ(reader.u16(), 2);
  EXPECT_EQ(reader.u32(), 3u);
  EXPECT_EQ(reader.u64(), 4u);
  EXPECT_EQ(reader.i64(), -5);
  EXPECT_EQ(reader.number<double>(), 2.5);
  EXPECT_EQ(reader.text(), "text");
  EXPECT_EQ(reader.id<WorkerId>(), id);
  EXPECT_EQ(reader.blob(4).size(), 4u);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(CodecTest, EveryCutMakesTheReaderFailAndStayFailed) {
  ByteWriter writer;
  writer.u32(7).text("some text").blob(std::as_bytes(std::span("blob", 4)));
  for (std::size_t length = 0; length < writer.size(); ++length) {
    ByteReader reader(writer.view().first(length));
    reader.u32();
    reader.text();
    reader.blob(100);
    EXPECT_FALSE(reader.ok()) << length;
    EXPECT_EQ(reader.u8(), 0) << "a failed reader returns zeros";
    EXPECT_EQ(reader.remaining(), 0u);
  }
}

TEST(CodecTest, LimitsAreCheckedBeforeTheLengthIsBelieved) {
  ByteWriter writer;
  writer.u32(0xffffffffu).u64(0);
  ByteReader blob(writer.view());
  EXPECT_TRUE(blob.blob(1u << 20).empty());
  EXPECT_FALSE(blob.ok());
  ByteReader text(writer.view());
  EXPECT_TRUE(text.text(16).empty());
  EXPECT_FALSE(text.ok());
}

TEST(CodecTest, FitsRefusesCountsThatTheInputCannotHold) {
  const std::byte input[32] = {};
  EXPECT_TRUE(ByteReader(input).fits(4, 8));
  EXPECT_FALSE(ByteReader(input).fits(5, 8));
  EXPECT_FALSE(ByteReader(input).fits(SIZE_MAX, 8)) << "no overflow";
}

TEST(CodecTest, LongTextIsCutAtWhatItsLengthCanSay) {
  ByteWriter writer;
  writer.text(std::string(70000, 'x'));
  EXPECT_EQ(writer.size(), 2u + 65535u);
}

}  // namespace
}  // namespace aktis::wire
