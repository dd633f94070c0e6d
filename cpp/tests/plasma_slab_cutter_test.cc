#include <gtest/gtest.h>

#include "plasma/allocator.h"
#include "plasma/slab_cutter.h"

namespace aktis::plasma {
namespace {

// What was told to the store: "trim 1@128", "close 1".
class Told final : public OpVisitor {
 public:
  explicit Told(const OpWriter& ops) { decode_ops(ops.view(), *this); }
  bool on_seal(const SealOp&) override { return false; }
  bool on_release(std::uint64_t, std::uint32_t) override { return false; }
  bool on_delete(const ObjectId&) override { return false; }
  bool on_abort(std::uint64_t) override { return false; }
  bool on_get(const ObjectId&) override { return false; }
  bool on_get_sealed(const ObjectId&) override { return false; }
  bool on_cancel_get(const ObjectId&) override { return false; }
  bool on_slab_trim(std::uint64_t slab, std::uint64_t used) override {
    text += "trim " + std::to_string(slab) + "@" + std::to_string(used) + " ";
    return true;
  }
  bool on_cancel_create(std::uint64_t) override { return true; }
  bool on_slab_close(std::uint64_t slab) override {
    text += "close " + std::to_string(slab) + " ";
    return true;
  }
  std::string text;
};

class SlabCutterTest : public ::testing::Test {
 protected:
  void grant(std::uint64_t slab, std::uint64_t offset, std::uint64_t size) {
    cutter.granted({slab, offset, size}, now, ops);
  }
  std::string told() {
    const std::string text = Told(ops).text;
    ops.clear();
    return text;
  }
  SlabCutter cutter;
  OpWriter ops;
  wire::TimePoint now = wire::TimePoint{} + std::chrono::hours(1);
};

TEST_F(SlabCutterTest, CutsOneAfterTheOther) {
  EXPECT_FALSE(cutter.cut(10, ops));
  grant(1, 4096, 1024);
  EXPECT_EQ(cutter.cut(10, ops)->offset, 4096u);
  EXPECT_EQ(cutter.cut(0, ops)->offset, 4096u + 64);
  EXPECT_EQ(cutter.cut(100, ops)->offset, 4096u + 128);
  EXPECT_EQ(told(), "");
}

TEST_F(SlabCutterTest, AsksAheadOnceAndOnlyWhenItRunsLow) {
  EXPECT_EQ(cutter.take_request(10, now), 10u);
  EXPECT_FALSE(cutter.take_request(10, now));  // asked already
  grant(1, 0, 1024);
  const auto first = cutter.cut(64, ops);
  EXPECT_FALSE(cutter.take_request(64, now));
  for (int i = 0; i < 8; ++i) cutter.cut(64, ops);
  EXPECT_TRUE(cutter.take_request(64, now));  // more than half is used
  EXPECT_TRUE(first);
}

TEST_F(SlabCutterTest, GoesOnInTheSlabThatIsReady) {
  grant(1, 0, 256);
  const auto a = cutter.cut(128, ops);
  grant(2, 4096, 1024);
  const auto b = cutter.cut(200, ops);
  EXPECT_EQ(b->slab, 2u);
  EXPECT_EQ(told(), "trim 1@128 ");  // the rest goes back, what is being written stays
  cutter.settle(*a, ops);
  EXPECT_EQ(told(), "close 1 ");
  cutter.settle(*b, ops);
  EXPECT_EQ(told(), "");  // still in use
}

TEST_F(SlabCutterTest, RefusalPausesTheAsking) {
  ASSERT_TRUE(cutter.take_request(10, now));
  grant(0, 0, 0);
  EXPECT_FALSE(cutter.take_request(10, now));
  EXPECT_TRUE(cutter.take_request(10, now + std::chrono::seconds(1)));
}

TEST_F(SlabCutterTest, ReclaimGivesBackAllThatIsNotWritten) {
  grant(1, 0, 256);
  const auto a = cutter.cut(64, ops);
  grant(2, 4096, 1024);
  cutter.reclaim(ops);
  EXPECT_EQ(told(), "trim 1@64 close 2 ");
  EXPECT_FALSE(cutter.cut(64, ops));
  cutter.settle(*a, ops);
  EXPECT_EQ(told(), "close 1 ");
}

}  // namespace
}  // namespace aktis::plasma
