// The borrower: references taken in, registered, adopted from replies, lost (R3, R4, R8, R10).
#include "references_fixture.h"

namespace aktis::testing {
namespace {

class ReferencesBorrowTest : public ReferencesFixture {};

TEST_F(ReferencesBorrowTest, RegisteredReferenceNeedsNoCover) {
  borrow_registered(object(1));
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_TRUE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesBorrowTest, OwnObjectThatComesBackIsCountedLocally) {
  table.add_owned(object(1));
  table.add_borrowed(object(1), kSelf, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(table.counts(object(1)).local, 2u);
  EXPECT_TRUE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesBorrowTest, AnUnknownOuterCoversNothing) {
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"});
}

TEST_F(ReferencesBorrowTest, InnerOfAnotherOwnerRegistersOnceTheOuterIsKept) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.add_borrowed(object(2), kOther, Cover::by_object(object(1)));
  table.add_borrowed(object(3), kOwner, Cover::by_object(object(1)));
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), (Texts{"add 2 to 4", "endable 9"}));
  EXPECT_EQ(table.counts(object(3)).state, State::kCovered) << "lives and dies with its outer";
}

TEST_F(ReferencesBorrowTest, InnerOfAnotherOwnerUnderARegisteredOuterRegistersAtOnce) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOther, Cover::by_object(object(1)));
  EXPECT_EQ(actions(), Texts{"add 2 to 4"});
}

TEST_F(ReferencesBorrowTest, LateAnswersDoNotHitANewerRegistration) {
  table.add_borrowed(object(1), kOwner, Cover::none());
  actions();
  const std::uint64_t first = generation;
  table.remove_local(object(1));
  table.add_borrowed(object(1), kOwner, Cover::none());
  EXPECT_EQ(actions(), (Texts{"remove 1 to 2", "release 1", "add 1 to 2"}));
  EXPECT_GT(generation, first);
  table.on_borrow_nack(kOwner, object(1), first);
  table.on_borrow_ack(kOwner, object(1), first);
  table.on_borrow_ack(kOther, object(1), generation);
  EXPECT_EQ(table.counts(object(1)).state, State::kAdding);
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(table.counts(object(1)).state, State::kRegistered);
}

TEST_F(ReferencesBorrowTest, CallerRegistersWhatItWasGivenThenReleases) {
  table.add_owned(object(9));
  table.add_owned(object(3));
  table.adopt_return(kOther, 5,
                     std::vector<ReturnedRef>{{object(9), object(1), kOwner}, {object(9), object(3), kSelf}});
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"return release to 4"});
  table.remove_local(std::vector{object(9), object(3)});
  EXPECT_EQ(actions(), (Texts{"free 9", "free 3", "remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesBorrowTest, ResultThatNobodyWantsIsReleasedUnread) {
  table.adopt_return(kOther, 5, std::vector<ReturnedRef>{{object(9), object(1), kOwner}});
  EXPECT_EQ(actions(), Texts{"return release to 4"});
  table.adopt_return(kOther, 6, {});
  EXPECT_EQ(actions(), Texts{"return release to 4"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesBorrowTest, ReturnToOneselfNeedsNoMessage) {
  table.add_owned(object(1));
  table.add_owned(object(9));
  const std::uint64_t hold = table.hold_return(kSelf, std::vector{object(1)});
  table.remove_local(object(1));
  table.adopt_return(kSelf, hold, std::vector<ReturnedRef>{{object(9), object(1), kSelf}});
  EXPECT_EQ(actions(), Texts{});
  table.remove_local(object(9));
  EXPECT_EQ(actions(), (Texts{"free 9", "free 1"}));
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesBorrowTest, RefusedReferenceIsLostButHoldsNothingBack) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  actions();
  table.on_borrow_nack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), (Texts{"lost 1", "endable 9"}));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"release 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesBorrowTest, LostReferenceThatArrivesAgainStartsAnew) {
  table.add_borrowed(object(1), kOwner, Cover::none());
  actions();
  table.on_borrow_nack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"lost 1"});
  table.add_owned(object(9));
  table.adopt_return(kOther, 5, std::vector<ReturnedRef>{{object(9), object(1), kOwner}});
  EXPECT_EQ(actions(), Texts{"add 1 to 2"}) << "and the executor holds it until the answer";
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"return release to 4"});
}

TEST_F(ReferencesBorrowTest, LostOuterMakesItsInnerRegister) {
  table.add_borrowed(object(1), kOwner, Cover::none());
  actions();
  const std::uint64_t outer = generation;
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.on_borrow_nack(kOwner, object(1), outer);
  EXPECT_EQ(actions(), (Texts{"lost 1", "add 2 to 2"}));
}

TEST_F(ReferencesBorrowTest, ReferenceUnderRegistrationStillNeedsItsCovers) {
  table.add_borrowed(object(1), kOwner, Cover::none());
  actions();
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9))) << "the ADD alone keeps nothing";
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"endable 9"});
}

TEST_F(ReferencesBorrowTest, OwnFreedObjectThatComesBackIsLost) {
  table.add_borrowed(object(1), kSelf, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"lost 1"});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"release 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesBorrowTest, OwnFreedObjectWithLineageComesBackToBeRecomputed) {
  table.add_owned(object(1));
  table.add_lineage_pin(object(1));
  table.remove_local(object(1));
  actions();
  table.add_borrowed(object(1), kSelf, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"lost 1"});
  EXPECT_EQ(table.counts(object(1)).state, State::kOwned);
}

}  // namespace
}  // namespace aktis::testing
