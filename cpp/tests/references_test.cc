// The rules of the reference table, one by one, on single tables: events in, actions out.
#include "core/references.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace aktis {
namespace {

using Kind = ReferenceAction::Kind;
using references::State;

WorkerId worker(std::uint8_t number) {
  WorkerId id;
  id.data[0] = number;
  return id;
}

TaskId task(std::uint8_t number) {
  TaskId id;
  id.data[8] = number;
  return id;
}

ObjectId object(std::uint8_t number) { return ObjectId::of(task(number), 0); }

const WorkerId kSelf = worker(1);
const WorkerId kOwner = worker(2);
const WorkerId kCaller = worker(3);
const WorkerId kOther = worker(4);

std::string number(const ObjectId& id) { return std::to_string(id.data[8]); }

// Actions as text, e.g. "add 5 to 2"; the generation of the last message is kept for the answer.
class ReferencesTest : public ::testing::Test {
 protected:
  std::vector<std::string> actions() {
    table.validate();
    std::vector<std::string> texts;
    for (const ReferenceAction& action : table.take_actions()) {
      if (action.generation != 0) generation = action.generation;
      texts.push_back(describe(action));
    }
    return texts;
  }

  static std::string describe(const ReferenceAction& action) {
    const std::string id = number(action.object);
    const std::string peer = " to " + std::to_string(action.peer.data[0]);
    switch (action.kind) {
      case Kind::kSendBorrowAdd:
        return "add " + id + peer;
      case Kind::kSendBorrowAck:
        return "ack " + id + peer;
      case Kind::kSendBorrowNack:
        return "nack " + id + peer;
      case Kind::kSendBorrowRemove:
        return "remove " + id + peer;
      case Kind::kSendReturnRelease:
        return "return release" + peer;
      case Kind::kFreeObject:
        return "free " + id + (action.lineage_kept ? ", keep lineage" : "");
      case Kind::kLineageDroppable:
        return "drop lineage " + id;
      case Kind::kReleaseBorrowed:
        return "release " + id;
      case Kind::kObjectOwnerDied:
        return "owner died " + id;
      case Kind::kObjectLost:
        return "lost " + id;
      case Kind::kTaskEndable:
        return "endable " + std::to_string(action.task.data[8]);
    }
    return "unknown";
  }

  // A reference that this process holds and has registered with kOwner.
  void borrow_registered(const ObjectId& id) {
    table.add_borrowed(id, kOwner, Cover::none());
    actions();
    table.on_borrow_ack(kOwner, id, generation);
    ASSERT_EQ(table.counts(id).state, State::kRegistered);
  }

  using Texts = std::vector<std::string>;
  ReferenceTable table{kSelf};
  std::uint64_t generation = 0;
};

// --- R1: counts of one process -----------------------------------------------------------------------------

TEST_F(ReferencesTest, LastHandleFreesAnOwnedObject) {
  table.add_owned(object(1), 2);
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"free 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, SubmittedTaskKeepsItsArguments) {
  table.add_owned(object(1));
  table.add_task_use(object(1));
  table.add_task_use(object(1));  // a second attempt
  table.remove_local(object(1));
  table.remove_task_use(object(1));
  EXPECT_EQ(actions(), Texts{});
  table.remove_task_use(object(1));
  EXPECT_EQ(actions(), Texts{"free 1"});
}

TEST_F(ReferencesTest, ContainerKeepsWhatItContains) {
  table.add_owned(object(1));
  table.add_owned(object(2));
  table.set_contained(object(2), std::vector{object(1), object(1), object(2)});
  EXPECT_EQ(table.counts(object(1)).containers, 2u);
  EXPECT_EQ(table.counts(object(2)).containers, 0u) << "an object does not keep itself";
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{});
  table.remove_local(object(2));
  EXPECT_EQ(actions(), (Texts{"free 2", "free 1"}));
}

TEST_F(ReferencesTest, LineagePinKeepsTheRecordButNotTheValue) {
  table.add_owned(object(1));
  table.add_lineage_pin(object(1));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"free 1, keep lineage"});
  EXPECT_EQ(table.counts(object(1)).state, State::kFreed);
  table.remove_lineage_pin(object(1));
  EXPECT_EQ(actions(), Texts{"drop lineage 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, FreedObjectIsHeldAgainWhileItIsRecomputed) {
  table.add_owned(object(1));
  table.add_lineage_pin(object(1));
  table.remove_local(object(1));
  actions();
  table.add_task_use(object(1));
  EXPECT_EQ(table.counts(object(1)).state, State::kOwned);
  table.remove_lineage_pin(object(1));
  EXPECT_EQ(actions(), Texts{});
  table.remove_task_use(object(1));
  EXPECT_EQ(actions(), Texts{"free 1"});
}

TEST_F(ReferencesTest, MisuseIsReportedAndChangesNothing) {
  EXPECT_THROW(table.add_local(object(1)), std::logic_error);
  EXPECT_THROW(table.add_owned(object(1), 0), std::logic_error);
  table.add_owned(object(1));
  EXPECT_THROW(table.add_owned(object(1)), std::logic_error);
  EXPECT_THROW(table.remove_task_use(object(1)), std::logic_error);
  EXPECT_THROW(table.remove_lineage_pin(object(1)), std::logic_error);
  EXPECT_THROW(table.set_contained(object(1), std::vector{object(2)}), std::logic_error);
  table.add_borrowed(object(3), kOwner, Cover::none());
  EXPECT_THROW(table.add_lineage_pin(object(3)), std::logic_error);
  EXPECT_THROW(table.set_contained(object(3), {}), std::logic_error);
  try {
    table.remove_local(object(2));
    FAIL();
  } catch (const std::logic_error& error) {
    EXPECT_NE(std::string(error.what()).find(object(2).hex()), std::string::npos) << error.what();
  }
  EXPECT_EQ(table.counts(object(1)).local, 1u);
  table.validate();
}

// --- R2: covers --------------------------------------------------------------------------------------------

TEST_F(ReferencesTest, ArgumentUsedAndDroppedCostsNoMessage) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.remove_local(object(1));
  EXPECT_TRUE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"release 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, KeptArgumentIsRegisteredBeforeTheReply) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"endable 9"});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), (Texts{"remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesTest, TaskWithoutReferencesEndsAtOnce) { EXPECT_TRUE(table.end_task(task(9))); }

TEST_F(ReferencesTest, RegisteredReferenceNeedsNoCover) {
  borrow_registered(object(1));
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_TRUE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesTest, FirstCoverToEndRegistersAlthoughAnotherIsLeft) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(8), kCaller));
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kOther));
  EXPECT_FALSE(table.end_task(task(8)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"endable 8"});
  EXPECT_TRUE(table.end_task(task(9)));
}

TEST_F(ReferencesTest, OuterIsReleasedAfterItsInnerIsRegistered) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"});
  table.on_borrow_ack(kOwner, object(2), generation);
  EXPECT_EQ(actions(), (Texts{"remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesTest, OuterUnderATaskHoldsTheReplyBackForItsInner) {
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

TEST_F(ReferencesTest, LingeringOuterThatIsHeldAgainStays) {
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

TEST_F(ReferencesTest, LingeringArgumentThatIsHeldAgainRegistersSoThatTheReplyIsNotHeldForEver) {
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

TEST_F(ReferencesTest, ArgumentThatArrivesWhileTheTaskIsEndingRegistersAtOnce) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  table.add_borrowed(object(2), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), (Texts{"add 1 to 2", "add 2 to 2"}));
}

TEST_F(ReferencesTest, OuterAndInnerDroppedTogetherCostNoRegistration) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.remove_local(std::vector{object(1), object(2)});
  EXPECT_EQ(actions(), (Texts{"release 2", "remove 1 to 2", "release 1"}));
}

TEST_F(ReferencesTest, OwnObjectThatComesBackIsCountedLocally) {
  table.add_owned(object(1));
  table.add_borrowed(object(1), kSelf, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(table.counts(object(1)).local, 2u);
  EXPECT_TRUE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesTest, AnUnknownOuterCoversNothing) {
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"});
}

// --- R10: an outer of another owner ------------------------------------------------------------------------

TEST_F(ReferencesTest, InnerOfAnotherOwnerRegistersOnceTheOuterIsKept) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.add_borrowed(object(2), kOther, Cover::by_object(object(1)));
  table.add_borrowed(object(3), kOwner, Cover::by_object(object(1)));
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), (Texts{"add 2 to 4", "endable 9"}));
  EXPECT_EQ(table.counts(object(3)).state, State::kCovered) << "lives and dies with its outer";
}

TEST_F(ReferencesTest, InnerOfAnotherOwnerUnderARegisteredOuterRegistersAtOnce) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOther, Cover::by_object(object(1)));
  EXPECT_EQ(actions(), Texts{"add 2 to 4"});
}

// --- R3: registration --------------------------------------------------------------------------------------

TEST_F(ReferencesTest, OwnerCountsABorrower) {
  table.add_owned(object(1));
  table.on_borrow_add(kOther, object(1), 7);
  EXPECT_EQ(actions(), Texts{"ack 1 to 4"});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{});
  EXPECT_EQ(table.counts(object(1)).borrowers, 1u);
  table.on_borrow_remove(kOther, object(1), 7);
  EXPECT_EQ(actions(), Texts{"free 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, LateRemoveDoesNotHitANewerRegistration) {
  table.add_owned(object(1));
  table.on_borrow_add(kOther, object(1), 8);
  table.on_borrow_remove(kOther, object(1), 7);
  EXPECT_EQ(table.counts(object(1)).borrowers, 1u);
  table.on_borrow_add(kOther, object(1), 7);
  EXPECT_EQ(actions(), Texts{"ack 1 to 4"}) << "a late ADD is not answered";
  table.on_borrow_remove(kOther, object(1), 8);
  EXPECT_EQ(table.counts(object(1)).borrowers, 0u);
}

TEST_F(ReferencesTest, LateAnswersDoNotHitANewerRegistration) {
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

TEST_F(ReferencesTest, DropDuringRegistrationLetsTheReplyGo) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), (Texts{"add 1 to 2", "remove 1 to 2", "release 1", "endable 9"}));
}

// --- R4: returned references -------------------------------------------------------------------------------

TEST_F(ReferencesTest, ReturnHoldLastsUntilItsCallerReleasesIt) {
  table.add_owned(object(1));
  const std::uint64_t hold = table.hold_return(kCaller, std::vector{object(1)});
  table.remove_local(object(1));
  EXPECT_TRUE(table.end_task(task(9)));
  table.on_return_release(kOther, hold);
  table.on_return_release(kCaller, hold + 1);
  EXPECT_EQ(actions(), Texts{});
  table.on_return_release(kCaller, hold);
  EXPECT_EQ(actions(), Texts{"free 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, EveryResultHasItsOwnHold) {
  table.add_owned(object(1));
  const std::uint64_t first = table.hold_return(kCaller, std::vector{object(1)});
  const std::uint64_t second = table.hold_return(kCaller, std::vector{object(1)});
  EXPECT_NE(first, second);
  EXPECT_EQ(table.hold_return(kCaller, {}), 0u);
  table.remove_local(object(1));
  table.on_return_release(kCaller, first);
  table.on_return_release(kCaller, first);
  EXPECT_EQ(actions(), Texts{});
}

TEST_F(ReferencesTest, CallerRegistersWhatItWasGivenThenReleases) {
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

TEST_F(ReferencesTest, ResultThatNobodyWantsIsReleasedUnread) {
  table.adopt_return(kOther, 5, std::vector<ReturnedRef>{{object(9), object(1), kOwner}});
  EXPECT_EQ(actions(), Texts{"return release to 4"});
  table.adopt_return(kOther, 6, {});
  EXPECT_EQ(actions(), Texts{"return release to 4"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, ReturnToOneselfNeedsNoMessage) {
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

// --- R5: cascades ------------------------------------------------------------------------------------------

TEST_F(ReferencesTest, LongChainOfOwnedObjectsIsFreedWithoutRecursion) {
  constexpr std::uint32_t kLength = 100000;
  const auto link = [](std::uint32_t i) { return ObjectId::of(task(1), i); };
  for (std::uint32_t i = 0; i < kLength; ++i) {
    table.add_owned(link(i));
    if (i == 0) continue;
    table.set_contained(link(i), std::vector{link(i - 1)});
    table.remove_local(link(i - 1));
  }
  table.remove_local(link(kLength - 1));
  EXPECT_EQ(table.take_actions().size(), kLength);
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, LongChainOfBorrowedObjectsIsReleasedWithoutRecursion) {
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

// --- R6: deaths --------------------------------------------------------------------------------------------

TEST_F(ReferencesTest, DeadBorrowerIsForgotten) {
  table.add_owned(object(1));
  table.on_borrow_add(kOther, object(1), 1);
  table.remove_local(object(1));
  actions();
  table.on_process_lost(kOther);
  EXPECT_EQ(actions(), Texts{"free 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, DeadCallerLetsItsReturnHoldsGo) {
  table.add_owned(object(1));
  table.hold_return(kCaller, std::vector{object(1)});
  table.remove_local(object(1));
  table.on_process_lost(kCaller);
  EXPECT_EQ(actions(), Texts{"free 1"});
  table.add_owned(object(2));
  EXPECT_EQ(table.hold_return(kCaller, std::vector{object(2)}), 0u) << "nobody will release it";
}

TEST_F(ReferencesTest, DeadOwnerFailsItsObjectsAndIsSentNothing) {
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.add_borrowed(object(3), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  actions();
  table.on_process_lost(kOwner);
  auto done = actions();
  std::sort(done.begin(), done.end());
  EXPECT_EQ(done, (Texts{"endable 9", "owner died 1", "owner died 2", "owner died 3"}));
  table.remove_local(std::vector{object(1), object(2), object(3)});
  EXPECT_EQ(actions().size(), 3u) << "released, but without messages";
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, ReferenceOfAKnownDeadOwnerArrivesDead) {
  table.on_process_lost(kOwner);
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"owner died 1"});
  EXPECT_TRUE(table.end_task(task(9)));
}

TEST_F(ReferencesTest, DeadCoverMakesItsReferencesRegister) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.on_process_lost(kCaller);
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.add_borrowed(object(2), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"add 2 to 2"}) << "read from the frame of a dead caller";
  EXPECT_FALSE(table.end_task(task(9)));
  const std::uint64_t second = generation;
  table.on_borrow_nack(kOwner, object(2), second);
  EXPECT_EQ(actions(), Texts{"lost 2"});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), (Texts{"remove 1 to 2", "release 1", "endable 9"}));
}

TEST_F(ReferencesTest, DeadOwnerOfTheOuterMakesTheInnerRegister) {
  table.add_borrowed(object(1), kOther, Cover::by_task(task(9), kCaller));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.on_process_lost(kOther);
  EXPECT_EQ(actions(), (Texts{"owner died 1", "add 2 to 2"}));
  table.on_borrow_ack(kOwner, object(2), generation);
  EXPECT_TRUE(table.end_task(task(9)));
}

TEST_F(ReferencesTest, DeadExecutorIsSentNoRelease) {
  table.add_owned(object(9));
  table.adopt_return(kOther, 5, std::vector<ReturnedRef>{{object(9), object(1), kOwner}});
  table.on_process_lost(kOther);
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.adopt_return(kOther, 6, std::vector<ReturnedRef>{{object(9), object(2), kOwner}});
  EXPECT_EQ(actions(), Texts{"add 2 to 2"}) << "a last reply of the dead is still read";
}

TEST_F(ReferencesTest, TheDeadAreRefusedAndForgottenInTheEnd) {
  table.add_owned(object(1));
  table.on_process_lost(kOther);
  table.on_borrow_add(kOther, object(1), 1);
  EXPECT_EQ(actions(), Texts{"nack 1 to 4"});
  for (std::uint32_t i = 0; i < 5000; ++i) {
    WorkerId id;
    std::memcpy(id.data + 4, &i, sizeof i);
    table.on_process_lost(id);
  }
  table.on_borrow_add(kOther, object(1), 2);
  EXPECT_EQ(actions(), Texts{"ack 1 to 4"}) << "memory of the dead is bounded";
}

TEST_F(ReferencesTest, OnesOwnDeathIsNoNews) {
  table.add_owned(object(1));
  table.on_process_lost(kSelf);
  table.add_owned(object(2));
  EXPECT_NE(table.hold_return(kSelf, std::vector{object(2)}), 0u);
}

// --- R7, R8: outside and lost ------------------------------------------------------------------------------

TEST_F(ReferencesTest, ReferencePickledOutsideIsKeptForEver) {
  table.add_owned(object(1));
  table.pin_forever(object(1));
  table.pin_forever(object(1));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{});
  EXPECT_TRUE(table.counts(object(1)).pinned);
}

TEST_F(ReferencesTest, PinnedArgumentIsRegisteredWhenItsTaskEnds) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  table.pin_forever(object(1));
  table.remove_local(object(1));
  EXPECT_FALSE(table.end_task(task(9)));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
}

TEST_F(ReferencesTest, UnknownObjectIsRefusedWithoutAnEntry) {
  table.on_borrow_add(kOther, object(1), 3);
  EXPECT_EQ(actions(), Texts{"nack 1 to 4"});
  table.on_borrow_remove(kOther, object(1), 3);
  table.on_borrow_ack(kOther, object(1), 3);
  table.on_borrow_nack(kOther, object(1), 3);
  EXPECT_EQ(actions(), Texts{});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, RefusedReferenceIsLostButHoldsNothingBack) {
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_FALSE(table.end_task(task(9)));
  actions();
  table.on_borrow_nack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), (Texts{"lost 1", "endable 9"}));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"release 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, OwnFreedObjectThatComesBackIsLost) {
  table.add_borrowed(object(1), kSelf, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"lost 1"});
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{"release 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesTest, OwnFreedObjectWithLineageComesBackToBeRecomputed) {
  table.add_owned(object(1));
  table.add_lineage_pin(object(1));
  table.remove_local(object(1));
  actions();
  table.add_borrowed(object(1), kSelf, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"lost 1"});
  EXPECT_EQ(table.counts(object(1)).state, State::kOwned);
}

// --- R9: recomputed with other contents --------------------------------------------------------------------

TEST_F(ReferencesTest, ContentsOfAnEarlierValueStayCounted) {
  table.add_owned(object(9));
  table.add_owned(object(1));
  table.add_owned(object(2));
  table.set_contained(object(9), std::vector{object(1)});
  table.set_contained(object(9), std::vector{object(2)});
  table.remove_local(std::vector{object(1), object(2)});
  EXPECT_EQ(actions(), Texts{});
  table.remove_local(object(9));
  EXPECT_EQ(actions(), (Texts{"free 9", "free 1", "free 2"}));
}

// --- Questions ---------------------------------------------------------------------------------------------

TEST_F(ReferencesTest, CountsTellWhoHoldsWhat) {
  table.add_owned(object(1), 2);
  table.add_task_use(object(1));
  table.add_lineage_pin(object(1));
  table.hold_return(kCaller, std::vector{object(1)});
  table.on_borrow_add(kOther, object(1), 1);
  table.add_borrowed(object(2), kOwner, Cover::none());
  const ReferenceCounts counts = table.counts(object(1));
  EXPECT_EQ(counts.local, 2u);
  EXPECT_EQ(counts.task_uses, 1u);
  EXPECT_EQ(counts.lineage_pins, 1u);
  EXPECT_EQ(counts.return_holds, 1u);
  EXPECT_EQ(counts.borrowers, 1u);
  EXPECT_EQ(table.owner_of(object(1)), kSelf);
  EXPECT_EQ(table.owner_of(object(2)), kOwner);
  EXPECT_TRUE(table.owner_of(object(3)).is_nil());
  EXPECT_TRUE(table.is_owned(object(1)));
  EXPECT_FALSE(table.is_owned(object(2)));
  EXPECT_EQ(table.size(), 2u);
  EXPECT_EQ(table.ids().size(), 2u);
}

TEST_F(ReferencesTest, ActionsAreTakenOnceIntoAReusedBuffer) {
  std::vector<ReferenceAction> buffer(5);
  table.add_owned(object(1));
  table.remove_local(object(1));
  table.take_actions(buffer);
  ASSERT_EQ(buffer.size(), 1u);
  EXPECT_EQ(buffer[0].kind, Kind::kFreeObject);
  EXPECT_TRUE(table.take_actions().empty());
}

}  // namespace
}  // namespace aktis
