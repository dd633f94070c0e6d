#include <gtest/gtest.h>

#include <random>
#include <string>

#include "plasma/protocol.h"

namespace aktis::plasma {
namespace {

ObjectId some_id() {
  ObjectId id;
  for (std::size_t i = 0; i < sizeof(id.data); ++i) id.data[i] = static_cast<std::uint8_t>(i + 1);
  return id;
}

// Writes down what it is told.
class Recorder final : public OpVisitor {
 public:
  bool on_seal(const SealOp& op) override {
    return note("seal " + std::to_string(op.offset) + "+" + std::to_string(op.size_bytes) + "/" +
                std::to_string(op.flags) + (op.id == some_id() ? " id" : " other"));
  }
  bool on_release(std::uint64_t offset, std::uint32_t count) override {
    return note("release " + std::to_string(offset) + "x" + std::to_string(count));
  }
  bool on_delete(const ObjectId&) override { return note("delete"); }
  bool on_abort(std::uint64_t offset) override { return note("abort " + std::to_string(offset)); }
  bool on_get(const ObjectId&) override { return note("get"); }
  bool on_get_sealed(const ObjectId&) override { return note("get sealed"); }
  bool on_cancel_get(const ObjectId&) override { return note("cancel"); }
  bool on_slab_trim(std::uint64_t slab, std::uint64_t used) override {
    return note("trim " + std::to_string(slab) + "@" + std::to_string(used));
  }
  bool on_slab_close(std::uint64_t slab) override { return note("close " + std::to_string(slab)); }
  bool on_cancel_create(std::uint64_t correlation) override {
    return note("cancel creation " + std::to_string(correlation));
  }

  std::vector<std::string> heard;
  std::size_t refuse_after = 1000;

 private:
  bool note(std::string text) {
    heard.push_back(std::move(text));
    return heard.size() < refuse_after;
  }
};

OpWriter every_operation() {
  OpWriter ops;
  ops.seal({some_id(), WorkerId{}, 64, 100, kPrimary});
  ops.release(128, 3);
  ops.remove(some_id());
  ops.abort(256);
  ops.get(some_id());
  ops.cancel_get(some_id());
  ops.slab_trim(7, 4096);
  ops.slab_close(8);
  ops.cancel_create(9);
  return ops;
}

TEST(PlasmaProtocol, OperationsArriveInOrder) {
  Recorder recorder;
  const OpWriter ops = every_operation();
  EXPECT_EQ(decode_ops(ops.view(), recorder), OpsResult::kOk);
  const std::vector<std::string> expected = {"seal 64+100/1 id", "release 128x3", "delete",
                                             "abort 256",        "get",           "cancel",
                                             "trim 7@4096",      "close 8",       "cancel creation 9"};
  EXPECT_EQ(recorder.heard, expected);
}

TEST(PlasmaProtocol, ABatchThatIsCutOffIsMalformed) {
  const OpWriter ops = every_operation();
  Recorder whole;
  decode_ops(ops.view(), whole);
  std::size_t complete = 0;
  for (std::size_t length = 0; length < ops.size(); ++length) {
    Recorder recorder;
    complete += decode_ops(ops.view().first(length), recorder) == OpsResult::kOk;
    EXPECT_LE(recorder.heard.size(), whole.heard.size());
  }
  EXPECT_EQ(complete, whole.heard.size());  // only cuts between operations
}

TEST(PlasmaProtocol, UnknownOperationsAreMalformed) {
  for (int value = 0; value < 256; ++value) {
    if (value >= 1 && value <= 10) continue;
    const std::vector<std::byte> payload(64, static_cast<std::byte>(value));
    Recorder recorder;
    EXPECT_EQ(decode_ops(payload, recorder), OpsResult::kMalformed);
    EXPECT_TRUE(recorder.heard.empty());
  }
}

TEST(PlasmaProtocol, ARefusalStopsTheBatch) {
  Recorder recorder;
  recorder.refuse_after = 2;
  EXPECT_EQ(decode_ops(every_operation().view(), recorder), OpsResult::kRefused);
  EXPECT_EQ(recorder.heard.size(), 2u);
}

TEST(PlasmaProtocol, MessagesRoundTrip) {
  const auto arena = decode_arena(encode(ArenaInfo{1, 2, 3, 4}));
  ASSERT_TRUE(arena);
  EXPECT_EQ(arena->create_timeout_ms, 4u);
  const auto create = decode_create(encode(CreateRequest{some_id(), WorkerId{}, 5, 6, 0}));
  ASSERT_TRUE(create);
  EXPECT_EQ(create->id, some_id());
  EXPECT_EQ(create->timeout_ms, 6u);
  EXPECT_EQ(create->flags, 0);
  const auto created = decode_created(encode(CreateReply{CreateStatus::kFull, 0, "why"}));
  ASSERT_TRUE(created);
  EXPECT_EQ(created->status, CreateStatus::kFull);
  EXPECT_EQ(created->message, "why");
  const auto grant = decode_slab_grant(encode(SlabGrant{1, 2, 3}));
  ASSERT_TRUE(grant);
  EXPECT_EQ(grant->size_bytes, 3u);
  const std::vector<ObjectReply> replies = {{some_id(), ObjectStatus::kReady, 64, 9},
                                            {ObjectId{}, ObjectStatus::kLost, 0, 0}};
  const auto objects = decode_objects(encode(replies));
  ASSERT_TRUE(objects);
  ASSERT_EQ(objects->size(), 2u);
  EXPECT_EQ((*objects)[0].offset, 64u);
  EXPECT_EQ((*objects)[1].status, ObjectStatus::kLost);
}

TEST(PlasmaProtocol, ACountIsNotBelievedBeforeTheBytesAreThere) {
  wire::ByteWriter writer;
  writer.u32(0xffffffff);
  EXPECT_FALSE(decode_objects(writer.view()));  // and allocates nothing: the sanitizers would see it
}

TEST(PlasmaProtocol, LongMessagesAreCut) {
  const auto reply = decode_created(encode(CreateReply{CreateStatus::kFull, 0, std::string(100'000, 'x')}));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->message.size(), kMaxMessageBytes);
}

TEST(PlasmaProtocol, TruncatedMessagesAreRefused) {
  const auto refuses = [](const std::vector<std::byte>& whole, auto decode) {
    for (std::size_t length = 0; length < whole.size(); ++length) {
      EXPECT_FALSE(decode(std::span(whole).first(length)));
    }
  };
  refuses(encode(ArenaInfo{}), decode_arena);
  refuses(encode(CreateRequest{}), decode_create);
  refuses(encode(CreateReply{CreateStatus::kOk, 1, "text"}), decode_created);
  refuses(encode(SlabRequest{}), decode_slab_request);
  refuses(encode(SlabGrant{}), decode_slab_grant);
  refuses(encode(std::vector<ObjectReply>(3)), decode_objects);
}

}  // namespace
}  // namespace aktis::plasma
