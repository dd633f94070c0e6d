// Counts, and what the owner does (R1, R3, R4, R5, R7, R8, R9).
#include "references_fixture.h"

namespace aktis::testing {
namespace {

class ReferencesTest : public ReferencesFixture {};

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

TEST_F(ReferencesTest, RecordOfADroppedReferenceIsReusedEmpty) {
  borrow_registered(object(1));
  table.remove_local(object(1));
  actions();
  table.add_owned(object(2));
  EXPECT_EQ(table.counts(object(2)).state, State::kOwned);
  table.remove_local(object(2));
  EXPECT_EQ(actions(), Texts{"free 2"});
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

TEST_F(ReferencesTest, ReferencePickledOutsideIsKeptForEver) {
  table.add_owned(object(1));
  table.pin_forever(object(1));
  table.pin_forever(object(1));
  table.remove_local(object(1));
  EXPECT_EQ(actions(), Texts{});
  EXPECT_TRUE(table.counts(object(1)).pinned);
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

TEST_F(ReferencesTest, AValueTakenOverKeepsWhatItContains) {
  for (const std::uint8_t number : {1, 2, 3}) table.add_owned(object(number));
  table.set_contained(object(2), std::vector{object(1)});
  table.take_contents(object(3), object(2));
  EXPECT_EQ(table.counts(object(1)).containers, 2u);
  EXPECT_EQ(table.counts(object(2)).containers, 0u);
  table.remove_local(object(1));
  table.remove_local(object(2));
  EXPECT_EQ(actions(), Texts{"free 2"});
  table.remove_local(object(3));
  EXPECT_EQ(actions(), (Texts{"free 3", "free 1"}));
}

TEST_F(ReferencesTest, AValueTakenOverFromABorrowedObjectKeepsThat) {
  borrow_registered(object(2));
  table.add_owned(object(3));
  table.take_contents(object(3), object(2));
  table.remove_local(object(2));
  EXPECT_EQ(actions(), Texts{});
  table.remove_local(object(3));
  EXPECT_EQ(actions(), (Texts{"free 3", "remove 2 to 2", "release 2"}));
}

TEST_F(ReferencesTest, NothingIsTakenOverForAResultThatNobodyWants) {
  table.add_owned(object(2));
  table.take_contents(object(3), object(2));
  table.take_contents(object(2), object(3));
  EXPECT_FALSE(table.contains(object(3)));
  EXPECT_EQ(table.counts(object(2)).containers, 0u);
}

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
}  // namespace aktis::testing
