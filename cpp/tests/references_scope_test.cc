// Covers: what holds back their end, and what does not (R2).
#include "references_fixture.h"

namespace aktis::testing {
namespace {

class ReferencesScopeTest : public ReferencesFixture {};

TEST_F(ReferencesScopeTest, ArgumentUsedAndDroppedCostsNoMessage) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.remove_local(object(1));
  EXPECT_TRUE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"release 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesScopeTest, KeptArgumentIsRegisteredBeforeTheReply) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"endable 9"});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), (Texts{"remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesScopeTest, TaskWithoutReferencesEndsAtOnce) { EXPECT_TRUE(table.end_task(task(9))); }

TEST_F(ReferencesScopeTest, FirstCoverToEndRegistersAlthoughAnotherIsLeft) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(8), kCaller));
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kOther));
  EXPECT_FALSE(table.end_task(task(8)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"endable 8"});
  EXPECT_TRUE(table.end_task(task(9)));
}

TEST_F(ReferencesScopeTest, OuterIsReleasedAfterItsInnerIsRegistered) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"});
  table.on_borrow_ack(kOwner, object(2), generation);
  EXPECT_EQ(actions(), (Texts{"remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesScopeTest, OuterUnderATaskHoldsTheReplyBackForItsInner) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.add_borrowed(object(2), kOther, Cover::by_object(object(1)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"add 2 to 4"});
  const std::uint64_t inner = generation;
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{});
  table.on_borrow_ack(kOther, object(2), inner);
  EXPECT_EQ(actions(), (Texts{"release 1", "endable 9"}));
}

TEST_F(ReferencesScopeTest, LingeringOuterThatIsHeldAgainStays) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"});
  const std::uint64_t inner = generation;
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.on_borrow_ack(kOwner, object(2), inner);
  EXPECT_EQ(actions(), Texts{});
  EXPECT_EQ(table.counts(object(1)).state, State::kRegistered);
}

TEST_F(ReferencesScopeTest, LingeringOuterThatIsHeldAgainCoversAsBefore) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"});
  table.add_local(object(1));
  table.add_borrowed(object(3), kOwner, Cover::by_object(object(1)));
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesScopeTest, LingeringArgumentThatIsHeldAgainRegistersSoThatTheReplyIsNotHeldForEver) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(object(1));
  actions();
  const std::uint64_t inner = generation;
  EXPECT_FALSE(table.end_task(task(9)));
  table.add_borrowed(object(1), kOwner, Cover::none());
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"endable 9"});
  table.on_borrow_ack(kOwner, object(2), inner);
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesScopeTest, ArgumentThatArrivesWhileTheTaskIsEndingRegistersAtOnce) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  table.add_borrowed(object(2), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), (Texts{"add 1 to 2", "add 2 to 2"}));
}

TEST_F(ReferencesScopeTest, OuterAndInnerDroppedTogetherCostNoRegistration) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(std::vector{object(1), object(2)});
  EXPECT_EQ(actions(), (Texts{"release 2", "remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesScopeTest, DropDuringRegistrationLetsTheReplyGo) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), (Texts{"add 1 to 2", "remove 1 to 2", "release 1", "endable 9"}));
}

TEST_F(ReferencesScopeTest, LongChainOfBorrowedObjectsIsReleasedWithoutRecursion) {
  constexpr std::uint32_t kLength = 100000;
  const auto link = [](std::uint32_t i) { return ObjectId::of(task(1), i); };
  table.add_borrowed(link(0), kOwner, Cover::by_task(task(9), kCaller));
  for (std::uint32_t i = 1; i < kLength; ++i) {
    table.add_borrowed(link(i), kOwner, Cover::by_object(link(i - 1)));
  }
  for (std::uint32_t i = 0; i + 1 < kLength; ++i) table.remove_local(link(i));
  EXPECT_FALSE(table.end_task(task(9)));
  table.remove_local(link(kLength - 1));
  EXPECT_EQ(table.take_actions().back().kind, Kind::kTaskEndable);
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesScopeTest, PinnedArgumentIsRegisteredWhenItsTaskEnds) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.pin_forever(object(1));
  table.remove_local(object(1));
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
}

}  // namespace
}  // namespace aktis::testing
