// Groups whose members are threads; where one has to die, a process.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "collective/group.h"

namespace aktis::collective {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TimePoint soon(milliseconds after = seconds(60)) { return Clock::now() + after; }

class World {
 public:
  explicit World(std::uint32_t size, Segment::Interrupt interrupt = nullptr) {
    const int memory = Segment::create(size);
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      members.push_back(std::make_unique<Group>(::dup(memory), rank, size, interrupt));
    }
    ::close(memory);
  }
  // Does something as each member, at the same time.
  void together(const std::function<void(Group&, std::uint32_t)>& body) {
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < members.size(); ++rank) {
      threads.emplace_back([&, rank] { body(*members[rank], rank); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<std::unique_ptr<Group>> members;
};

std::byte* bytes(std::vector<std::int32_t>& values) { return reinterpret_cast<std::byte*>(values.data()); }

std::vector<std::int32_t> numbers(std::uint32_t rank, std::size_t count) {
  std::vector<std::int32_t> values(count);
  std::iota(values.begin(), values.end(), static_cast<std::int32_t>(1000 * rank));
  return values;
}

class GroupTest : public ::testing::TestWithParam<std::uint32_t> {};

// Sizes around the limits: nothing, less than one element per member, a chunk, several and a bit.
constexpr std::size_t kChunk = kChunkBytes / sizeof(std::int32_t);
constexpr std::size_t kCounts[] = {0, 1, 5, kChunk - 1, kChunk, 2 * kChunk + 7};

TEST_P(GroupTest, AllHaveTheSumOfAll) {
  World world(GetParam());
  world.together([&](Group& group, std::uint32_t rank) {
    for (const std::size_t count : kCounts) {
      auto values = numbers(rank, count);
      group.all_reduce(bytes(values), count, DataType::kInt32, Operation::kSum, soon());
      const auto size = static_cast<std::int32_t>(GetParam());
      for (std::size_t i = 0; i < count; ++i) {
        const auto expected = size * static_cast<std::int32_t>(i) + 1000 * size * (size - 1) / 2;
        ASSERT_EQ(values[i], expected) << "element " << i << " of " << count << " at rank " << rank;
      }
    }
  });
}

TEST_P(GroupTest, OperationsOfAllKindsFollowOneAnother) {
  World world(GetParam());
  world.together([&](Group& group, std::uint32_t rank) {
    const std::uint32_t size = GetParam();
    for (std::uint32_t turn = 0; turn < 200; ++turn) {
      const std::uint32_t root = turn % size;
      const std::size_t count = turn % 7 == 0 ? kChunk + turn : turn;
      auto values = numbers(rank + turn, count);
      group.broadcast(bytes(values), count, DataType::kInt32, root, soon());
      ASSERT_EQ(values, numbers(root + turn, count));
      group.barrier(soon());
      auto largest = numbers(rank, count);
      group.reduce(bytes(largest), count, DataType::kInt32, Operation::kMax, root, soon());
      ASSERT_EQ(largest, numbers(rank == root ? size - 1 : rank, count));
    }
  });
}

TEST_P(GroupTest, MessagesArriveInOrder) {
  World world(GetParam());
  world.together([&](Group& group, std::uint32_t rank) {
    const std::uint32_t size = GetParam();
    const std::uint32_t right = (rank + 1) % size, left = (rank + size - 1) % size;
    for (std::size_t count = 0; count < 3 * kSlots; ++count) {  // they fit into the slots one by one only
      auto values = numbers(rank, count);
      group.send(bytes(values), count, DataType::kInt32, right, soon());
      if (count + 1 < kSlots) continue;
      const std::size_t earlier = count + 1 - kSlots;
      std::vector<std::int32_t> arrived(earlier);
      group.receive(bytes(arrived), earlier, DataType::kInt32, left, soon());
      ASSERT_EQ(arrived, numbers(left, earlier));
    }
  });
}

TEST_P(GroupTest, DifferentCallsAreRefusedByAllAndTheGroupGoesOn) {
  World world(GetParam());
  world.together([&](Group& group, std::uint32_t rank) {
    std::vector<std::int32_t> values(10, 1);
    EXPECT_THROW(
        group.all_reduce(bytes(values), rank == 0 ? 9 : 10, DataType::kInt32, Operation::kSum, soon()),
        std::invalid_argument);
    EXPECT_THROW(group.broadcast(bytes(values), 10, DataType::kInt32, rank == 0, soon()),
                 std::invalid_argument);
    group.all_reduce(bytes(values), 10, DataType::kInt32, Operation::kSum, soon());
    EXPECT_EQ(values[9], static_cast<std::int32_t>(GetParam()));
  });
}

TEST(DescriptionTest, WhatAnotherVersionCallsHasAText) {
  Description unknown_call, unknown_type, unknown_operation;
  unknown_call.call = static_cast<Call>(6);
  unknown_type.type = static_cast<DataType>(kDataTypes);
  unknown_operation.operation = static_cast<Operation>(kOperations);
  for (const Description& description : {unknown_call, unknown_type, unknown_operation}) {
    EXPECT_EQ(text_of(description), "a call that this version does not have");
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, GroupTest, ::testing::Values(2, 3, 5));

TEST(BrokenGroupTest, WhoIsLateBreaksTheGroupForAll) {
  World world(3);
  EXPECT_THROW(world.members[0]->barrier(soon(milliseconds(1))), GroupTimedOut);
  for (const auto& member : world.members) EXPECT_THROW(member->barrier(soon()), GroupFailed);
}

TEST(BrokenGroupTest, WhoLeavesEndsTheWaitingOfTheOthers) {
  World world(2);
  std::thread waiting([&] { EXPECT_THROW(world.members[0]->barrier(soon()), GroupFailed); });
  world.members[1].reset();
  waiting.join();
}

TEST(BrokenGroupTest, AnInterruptEndsTheWaitOfAll) {
  World world(2, [] { throw std::domain_error("interrupted"); });
  EXPECT_THROW(world.members[0]->barrier(soon()), std::domain_error);
  EXPECT_THROW(world.members[1]->barrier(soon()), GroupFailed);
}

TEST(BrokenGroupTest, ADeadProcessIsMissedWhateverItDiedOf) {
  const int memory = Segment::create(2);
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const Group group(::dup(memory), 1, 2, nullptr);
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  Group group(memory, 0, 2, nullptr);
  ::kill(child, SIGKILL);
  try {
    group.barrier(soon());
    FAIL() << "the barrier has not noticed";
  } catch (const GroupFailed& failure) {
    EXPECT_STREQ(failure.what(), "rank 1's process has died");
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(SegmentTest, RefusesWhatIsNoMemoryOfTheGroup) {
  const int memory = Segment::create(2);
  EXPECT_THROW(Segment(::dup(memory), 0, 3, nullptr), std::invalid_argument);
  EXPECT_THROW(Segment(::dup(memory), 2, 2, nullptr), std::invalid_argument);
  ::close(memory);
  EXPECT_THROW(Segment::create(0), std::invalid_argument);
  EXPECT_THROW(Segment::create(kMaxMembers + 1), std::invalid_argument);
}

}  // namespace
}  // namespace aktis::collective
