#include <gtest/gtest.h>

#include <set>
#include <unordered_set>

#include "wire/ids.h"

namespace aktis {
namespace {

TEST(IdsTest, RandomIdsDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(WorkerId::random().binary());
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_FALSE(WorkerId::random().is_nil());
  EXPECT_TRUE(WorkerId{}.is_nil());
}

TEST(IdsTest, HexIsTwoDigitsPerByte) {
  JobId id;
  id.data[0] = 0x0a;
  id.data[3] = 0xff;
  EXPECT_EQ(id.hex(), "0a0000ff");
}

TEST(IdsTest, TaskIdsSayWhetherTheyAreCalls) {
  const WorkerId worker = WorkerId::random();
  EXPECT_FALSE(is_call(make_task_id(worker, 7)));
  EXPECT_TRUE(is_call(make_task_id(worker, 7 | kCallBit)));
  EXPECT_NE(make_task_id(worker, 7), make_task_id(worker, 7 | kCallBit));
}

TEST(IdsTest, ObjectIdsKnowTheirTaskAndIndex) {
  const TaskId task = TaskId::random();
  const ObjectId object = ObjectId::of(task, 3 | ObjectId::kPutBit);
  EXPECT_EQ(object.task(), task);
  EXPECT_EQ(object.index(), 3 | ObjectId::kPutBit);
  EXPECT_EQ(ObjectId::from_bytes(object.data), object);
}

TEST(IdsTest, HashesSpreadIdsThatDifferOnlyInTheirCounters) {
  TaskId task = TaskId::random();
  std::unordered_set<std::size_t> low_bits;
  for (std::uint64_t counter = 0; counter < 4096; ++counter) {
    std::memcpy(task.data + 8, &counter, 8);
    low_bits.insert(IdHash{}(ObjectId::of(task, counter % 3)) >> 48);
  }
  EXPECT_GT(low_bits.size(), 3500u);
}

}  // namespace
}  // namespace aktis
