#include <gtest/gtest.h>

#include <algorithm>

#include "plasma/client_objects.h"
#include "tests/plasma_engine_harness.h"

namespace aktis::plasma {
namespace {

using testing::numbered_object;
using testing::numbered_worker;
using Outcome = ClientObjects::Outcome;
using MayCreate = ClientObjects::MayCreate;

// What was told to the store, in short: "g" get, "c" cancel, "d" delete, "rOFFSETxCOUNT" release.
class Told final : public OpVisitor {
 public:
  explicit Told(const OpWriter& ops) { decode_ops(ops.view(), *this); }
  bool on_seal(const SealOp&) override { return false; }
  bool on_release(std::uint64_t offset, std::uint32_t count) override {
    text += "r" + std::to_string(offset) + "x" + std::to_string(count) + " ";
    return true;
  }
  bool on_delete(const ObjectId&) override { return text += "d ", true; }
  bool on_abort(std::uint64_t) override { return false; }
  bool on_get(const ObjectId&) override { return text += "g ", true; }
  bool on_get_sealed(const ObjectId&) override { return text += "gs ", true; }
  bool on_cancel_get(const ObjectId&) override { return text += "c ", true; }
  bool on_slab_trim(std::uint64_t, std::uint64_t) override { return false; }
  bool on_cancel_create(std::uint64_t) override { return true; }
  bool on_slab_close(std::uint64_t) override { return false; }
  std::string text;
};

class ClientObjectsTest : public ::testing::Test {
 protected:
  static ClientObjects::IdleLimits limits() {
    ClientObjects::IdleLimits limits;
    limits.max_bytes = 1000;
    limits.max_objects = 3;
    limits.lifetime = std::chrono::milliseconds(100);
    return limits;
  }
  Outcome ready(std::uint32_t number, std::uint64_t offset, std::uint64_t size_bytes = 100) {
    return objects.answer({numbered_object(number), ObjectStatus::kReady, offset, size_bytes}, ops);
  }
  Outcome lost(std::uint32_t number) {
    return objects.answer({numbered_object(number), ObjectStatus::kLost, 0, 0}, ops);
  }
  void make(std::uint32_t number, std::uint64_t offset, std::uint64_t size_bytes = 100) {
    objects.created(numbered_object(number), numbered_worker(1), {offset, size_bytes}, std::nullopt, true);
  }
  std::string told() {
    const std::string text = Told(ops).text;
    ops.clear();
    return text;
  }
  ClientObjects objects{limits()};
  OpWriter ops;
  wire::TimePoint now = wire::TimePoint{} + std::chrono::hours(1);
  const ObjectId id = numbered_object(1);
};

TEST_F(ClientObjectsTest, WhatSomebodyReadsIsTold) {
  for (const std::uint32_t number : {1u, 2u, 3u}) {
    objects.ask(numbered_object(number), ops);
    EXPECT_EQ(ready(number, number * 1000), Outcome::kDeliver);
  }
  objects.unpin(numbered_object(2), now, ops);
  auto found = objects.in_use(10);
  std::ranges::sort(found);
  const std::vector<std::pair<ObjectId, std::uint64_t>> expected = {{numbered_object(1), 100},
                                                                    {numbered_object(3), 100}};
  EXPECT_EQ(found, expected);
  EXPECT_EQ(objects.in_use(1).size(), 1u);
}

TEST_F(ClientObjectsTest, AskedOnceAnsweredOnce) {
  EXPECT_FALSE(objects.ask(id, ops));
  EXPECT_FALSE(objects.ask(id, ops));
  EXPECT_EQ(told(), "g ");
  EXPECT_EQ(ready(1, 64), Outcome::kDeliver);
  EXPECT_TRUE(objects.ask(id, ops));  // here now
  EXPECT_EQ(told(), "");
  EXPECT_EQ(objects.held(), 1u);
}

TEST_F(ClientObjectsTest, WhoAsksForSealedObjectsOnlySaysSo) {
  ClientObjects sealed_only{limits(), true};
  EXPECT_FALSE(sealed_only.ask(id, ops));
  EXPECT_EQ(told(), "gs ");
}

TEST_F(ClientObjectsTest, LastUnpinKeepsItForAMoment) {
  objects.ask(id, ops);
  ready(1, 64);
  objects.pin(id);
  EXPECT_TRUE(objects.unpin(id, now, ops));
  EXPECT_TRUE(objects.unpin(id, now, ops));
  EXPECT_FALSE(objects.unpin(id, now, ops));
  EXPECT_FALSE(objects.pin(id));
  told();
  EXPECT_TRUE(objects.pin_if_mapped(id));  // no message
  objects.unpin(id, now, ops);
  EXPECT_EQ(told(), "");
  EXPECT_EQ(objects.next_idle_deadline(), now + std::chrono::milliseconds(100));
  objects.release_idle(now + std::chrono::milliseconds(99), false, ops);
  EXPECT_EQ(told(), "");
  objects.release_idle(now + std::chrono::milliseconds(100), false, ops);
  EXPECT_EQ(told(), "r64x1 ");
  EXPECT_FALSE(objects.pin_if_mapped(id));
}

TEST_F(ClientObjectsTest, IdleObjectsAreBounded) {
  for (std::uint32_t i = 1; i <= 4; ++i) {
    objects.ask(numbered_object(i), ops);
    ready(i, i * 1024, i == 4 ? 900 : 100);
  }
  told();
  for (std::uint32_t i = 1; i <= 3; ++i) objects.unpin(numbered_object(i), now, ops);
  EXPECT_EQ(told(), "");
  objects.unpin(numbered_object(4), now, ops);
  EXPECT_EQ(told(), "r1024x1 r2048x1 ");  // oldest first, until 1000 bytes and 3 objects are left
}

TEST_F(ClientObjectsTest, AnswerThatCrossesACancelIsGivenBack) {
  objects.ask(id, ops);
  objects.cancel(id, ops);
  EXPECT_EQ(told(), "g c ");
  EXPECT_EQ(ready(1, 64), Outcome::kIgnore);
  EXPECT_EQ(told(), "r64x1 ");
}

TEST_F(ClientObjectsTest, EveryAnswerIsCountedWhenItWasAskedTwice) {
  objects.ask(id, ops);
  objects.cancel(id, ops);
  objects.ask(id, ops);  // the store answers both
  EXPECT_EQ(ready(1, 64), Outcome::kDeliver);
  EXPECT_EQ(ready(1, 64), Outcome::kIgnore);
  objects.unpin(id, now, ops);
  told();
  objects.release_idle(now, true, ops);
  EXPECT_EQ(told(), "r64x2 ");
}

TEST_F(ClientObjectsTest, LateSecondAnswerIsGivenBackByItself) {
  objects.ask(id, ops);
  objects.cancel(id, ops);
  objects.ask(id, ops);
  ready(1, 64);
  objects.unpin(id, now, ops);
  objects.release_idle(now, true, ops);
  told();
  EXPECT_EQ(ready(1, 64), Outcome::kIgnore);
  EXPECT_EQ(told(), "r64x1 ");
}

TEST_F(ClientObjectsTest, LostIsToldToWhoAsked) {
  objects.ask(id, ops);
  EXPECT_EQ(lost(1), Outcome::kLost);
  EXPECT_EQ(lost(1), Outcome::kIgnore);
  told();
  EXPECT_FALSE(objects.ask(id, ops));
  EXPECT_EQ(told(), "g ");  // asked anew
}

TEST_F(ClientObjectsTest, OwnSealServesWhoAsked) {
  objects.ask(id, ops);
  EXPECT_EQ(objects.may_create(id, ops), MayCreate::kYes);
  make(1, 128);
  const auto sealed = objects.seal(id);
  EXPECT_TRUE(sealed.wanted);
  EXPECT_EQ(sealed.op.offset, 128u);
  EXPECT_EQ(ready(1, 128), Outcome::kIgnore);  // the store's answer to the old question
  EXPECT_TRUE(objects.unpin(id, now, ops));
  EXPECT_TRUE(objects.unpin(id, now, ops));
  told();
  objects.release_idle(now, true, ops);
  EXPECT_EQ(told(), "r128x2 ");
}

TEST_F(ClientObjectsTest, AnothersCopyIsGivenBackWhenWeHaveOurOwn) {
  objects.ask(id, ops);
  make(1, 128);
  told();
  EXPECT_EQ(ready(1, 4096), Outcome::kIgnore);
  EXPECT_EQ(told(), "r4096x1 ");
  objects.seal(id);
  EXPECT_EQ(ready(1, 8192), Outcome::kIgnore);
  EXPECT_EQ(told(), "r8192x1 ");
}

TEST_F(ClientObjectsTest, AbortAsksTheStoreForWhoStillWaits) {
  make(1, 128);
  EXPECT_FALSE(objects.ask(id, ops));
  EXPECT_EQ(told(), "");  // our own seal will answer
  EXPECT_EQ(objects.abort(id, ops).place.offset, 128u);
  EXPECT_EQ(told(), "g ");
  EXPECT_EQ(ready(1, 64), Outcome::kDeliver);
  EXPECT_THROW(objects.abort(id, ops), std::logic_error);
  EXPECT_THROW(objects.seal(id), std::logic_error);
}

TEST_F(ClientObjectsTest, CreatingAgainDependsOnWhoHoldsIt) {
  make(1, 128);
  EXPECT_EQ(objects.may_create(id, ops), MayCreate::kExists);
  objects.seal(id);
  EXPECT_EQ(objects.may_create(id, ops), MayCreate::kAskStore);
  EXPECT_EQ(told(), "");
  objects.unpin(id, now, ops);
  EXPECT_EQ(objects.may_create(id, ops), MayCreate::kAskStore);
  EXPECT_EQ(told(), "r128x1 ");
  EXPECT_EQ(objects.may_create(id, ops), MayCreate::kYes);
}

TEST_F(ClientObjectsTest, ALostObjectIsMadeAgainUnderItsReaders) {
  make(1, 128);
  objects.seal(id);
  make(1, 256, 200);  // the store has lost it and gives another place
  EXPECT_EQ(objects.held(), 0u);
  EXPECT_TRUE(objects.pin(id));
  EXPECT_TRUE(objects.unpin(id, now, ops));
  objects.seal(id);
  EXPECT_EQ(objects.held_bytes(), 200u);
  EXPECT_EQ(objects.pin_if_mapped(id)->offset, 256u);
  for (int users = 3; users > 0; --users) {
    EXPECT_EQ(told(), "");
    EXPECT_TRUE(objects.unpin(id, now, ops));
  }
  EXPECT_FALSE(objects.unpin(id, now, ops));
  objects.release_idle(now, true, ops);
  EXPECT_EQ(told(), "r256x1 r128x1 ");
}

TEST_F(ClientObjectsTest, WhatIsNotMadeAgainStaysReadable) {
  make(1, 128);
  objects.seal(id);
  make(1, 256, 200);
  EXPECT_FALSE(objects.ask(id, ops));
  const auto aborted = objects.abort(id, ops);
  EXPECT_EQ(aborted.place.offset, 256u);
  ASSERT_TRUE(aborted.wanted);
  EXPECT_EQ(aborted.wanted->offset, 128u);
  EXPECT_EQ(objects.held_bytes(), 100u);
  EXPECT_TRUE(objects.unpin(id, now, ops));
  EXPECT_TRUE(objects.unpin(id, now, ops));
  EXPECT_FALSE(objects.unpin(id, now, ops));
  EXPECT_EQ(told(), "");
}

TEST_F(ClientObjectsTest, AReaderThatLeavesMeanwhileLeavesNothing) {
  make(1, 128);
  objects.seal(id);
  make(1, 256, 200);
  EXPECT_TRUE(objects.unpin(id, now, ops));
  EXPECT_FALSE(objects.pin(id));
  objects.abort(id, ops);
  EXPECT_EQ(told(), "r128x1 ");
  EXPECT_EQ(objects.may_create(id, ops), MayCreate::kYes);
}

TEST_F(ClientObjectsTest, RemovedObjectIsNotKeptIdle) {
  make(1, 128);
  objects.seal(id);
  objects.remove(id, ops);
  EXPECT_EQ(told(), "d ");
  objects.unpin(id, now, ops);
  EXPECT_EQ(told(), "r128x1 ");
  make(2, 256);
  objects.seal(numbered_object(2));
  objects.unpin(numbered_object(2), now, ops);
  objects.remove(numbered_object(2), ops);
  EXPECT_EQ(told(), "r256x1 d ");
}

}  // namespace
}  // namespace aktis::plasma
