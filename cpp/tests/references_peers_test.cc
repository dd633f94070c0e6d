// Deaths, in each of the roles that the dead process had (R6).
#include "references_fixture.h"

namespace aktis::testing {
namespace {

class ReferencesPeersTest : public ReferencesFixture {};

TEST_F(ReferencesPeersTest, DeadBorrowerIsForgotten) {
  table.add_owned(object(1));
  table.on_borrow_add(kOther, object(1), 1);
  table.remove_local(object(1));
  actions();
  table.on_process_lost(kOther);
  EXPECT_EQ(actions(), Texts{"free 1"});
  EXPECT_TRUE(table.idle());
}

TEST_F(ReferencesPeersTest, DeadCallerLetsItsReturnHoldsGo) {
  table.add_owned(object(1));
  table.hold_return(kCaller, std::vector{object(1)});
  table.remove_local(object(1));
  table.on_process_lost(kCaller);
  EXPECT_EQ(actions(), Texts{"free 1"});
  table.add_owned(object(2));
  EXPECT_EQ(table.hold_return(kCaller, std::vector{object(2)}), 0u) << "nobody will release it";
}

TEST_F(ReferencesPeersTest, DeadOwnerFailsItsObjectsAndIsSentNothing) {
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

TEST_F(ReferencesPeersTest, DeadOwnerOfOuterAndInnerIsNotAskedForTheInner) {
  // One inner that the table met before its outer and one after: the order of the loss must not matter.
  table.add_borrowed(object(2), kOwner, Cover::by_task(task(9), kCaller));
  borrow_registered(object(1));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.add_borrowed(object(3), kOwner, Cover::by_object(object(1)));
  table.on_process_lost(kOwner);
  for (const std::string& action : actions()) EXPECT_EQ(action.rfind("owner died", 0), 0u) << action;
}

TEST_F(ReferencesPeersTest, ReferenceOfAKnownDeadOwnerArrivesDead) {
  table.on_process_lost(kOwner);
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"owner died 1"});
  EXPECT_TRUE(table.end_task(task(9)));
}

TEST_F(ReferencesPeersTest, DeadCoverMakesItsReferencesRegister) {
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

TEST_F(ReferencesPeersTest, TaskOfACallerKnownToBeDeadCoversNothing) {
  table.on_process_lost(kCaller);
  table.add_borrowed(object(1), kOwner, Cover::by_task(task(9), kCaller));
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
}

TEST_F(ReferencesPeersTest, DeadOwnerOfTheOuterMakesTheInnerRegister) {
  table.add_borrowed(object(1), kOther, Cover::by_task(task(9), kCaller));
  table.add_borrowed(object(2), kOwner, Cover::by_object(object(1)));
  table.on_process_lost(kOther);
  EXPECT_EQ(actions(), (Texts{"owner died 1", "add 2 to 2"}));
  table.on_borrow_ack(kOwner, object(2), generation);
  EXPECT_TRUE(table.end_task(task(9)));
}

TEST_F(ReferencesPeersTest, DeadExecutorIsSentNoRelease) {
  table.add_owned(object(9));
  table.adopt_return(kOther, 5, std::vector<ReturnedRef>{{object(9), object(1), kOwner}});
  table.on_process_lost(kOther);
  table.on_borrow_ack(kOwner, object(1), generation);
  EXPECT_EQ(actions(), Texts{"add 1 to 2"});
  table.adopt_return(kOther, 6, std::vector<ReturnedRef>{{object(9), object(2), kOwner}});
  EXPECT_EQ(actions(), Texts{"add 2 to 2"}) << "a last reply of the dead is still read";
}

TEST_F(ReferencesPeersTest, TheDeadAreRefusedAndForgottenInTheEnd) {
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

TEST_F(ReferencesPeersTest, OnesOwnDeathIsNoNews) {
  table.add_owned(object(1));
  table.on_process_lost(kSelf);
  table.add_owned(object(2));
  EXPECT_NE(table.hold_return(kSelf, std::vector{object(2)}), 0u);
}

}  // namespace
}  // namespace aktis::testing
