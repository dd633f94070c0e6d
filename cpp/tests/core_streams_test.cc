#include <gtest/gtest.h>

#include "core/streams.h"

namespace aktis::core {
namespace {

using Arrival = Stream::Arrival;

TEST(StreamTest, ItemsAreTakenInTheOrderInWhichTheyCame) {
  Stream stream(0);
  EXPECT_EQ(stream.arrive(0), Arrival::kNew);
  EXPECT_EQ(stream.arrive(1), Arrival::kNew);
  EXPECT_FALSE(stream.promise());
  EXPECT_EQ(stream.next(), 0u);
  EXPECT_FALSE(stream.take()) << "without a limit nobody waits to be told";
  EXPECT_EQ(stream.next(), 1u);
}

TEST(StreamTest, APromisedItemIsMadeOnceAndCompletedWhenItComes) {
  Stream stream(0);
  EXPECT_TRUE(stream.promise());
  EXPECT_FALSE(stream.promise());
  EXPECT_EQ(stream.kept_until(), 1u);
  EXPECT_EQ(stream.arrive(0), Arrival::kPromised);
  EXPECT_EQ(stream.arrive(1), Arrival::kNew);
  stream.take();
  EXPECT_FALSE(stream.promise()) << "the second item is there";
}

TEST(StreamTest, APromisedItemThatNeverComesIsCompletedByTheEnd) {
  Stream stream(0);
  stream.promise();
  EXPECT_FALSE(stream.ended_at_next());
  EXPECT_TRUE(stream.end());
  EXPECT_TRUE(stream.ended_at_next());
  EXPECT_EQ(stream.kept_until(), 1u) << "its object has to be let go with the rest";
}

TEST(StreamTest, TheEndComesAfterTheLastItemIsTaken) {
  Stream stream(0);
  stream.arrive(0);
  EXPECT_FALSE(stream.end());
  EXPECT_FALSE(stream.ended_at_next());
  stream.take();
  EXPECT_TRUE(stream.ended_at_next());
}

TEST(StreamTest, AnotherAttemptSkipsWhatHasCome) {
  Stream stream(0);
  stream.arrive(0);
  stream.arrive(1);
  EXPECT_EQ(stream.arrive(0), Arrival::kKnown);
  EXPECT_EQ(stream.arrive(1), Arrival::kKnown);
  EXPECT_EQ(stream.arrive(2), Arrival::kNew);
  EXPECT_EQ(stream.arrive(4), Arrival::kOutOfOrder);
}

TEST(StreamTest, WithALimitTheExecutorIsToldEveryHalfOfIt) {
  Stream stream(4);
  for (std::uint32_t i = 0; i < 4; ++i) stream.arrive(i);
  EXPECT_FALSE(stream.take());
  EXPECT_EQ(stream.take(), 2u);
  EXPECT_FALSE(stream.take());
  EXPECT_EQ(stream.take(), 4u);
}

TEST(StreamTest, WithALimitOfOneEveryItemIsTold) {
  Stream stream(1);
  for (std::uint32_t i = 0; i < 3; ++i) {
    stream.arrive(i);
    EXPECT_EQ(stream.take(), i + 1);
  }
}

TEST(StreamTest, NothingIsKeptForAConsumerThatIsGone) {
  Stream stream(0);
  stream.arrive(0);
  stream.arrive(1);
  stream.take();
  EXPECT_EQ(stream.kept_until(), 2u);
  stream.drop();
  EXPECT_EQ(stream.kept_until(), 1u);
  EXPECT_EQ(stream.arrive(2), Arrival::kKnown);
  EXPECT_EQ(stream.arrive(3), Arrival::kKnown) << "the order is watched all the same";
  EXPECT_EQ(stream.arrive(9), Arrival::kOutOfOrder);
}

// Items of 10 bytes come until the stream has to pause.
std::uint32_t fill(Stream& stream, std::uint64_t limit) {
  std::uint32_t index = 0;
  while (!stream.paused()) {
    stream.arrive(index++);
    const bool told = stream.came(10, limit);
    EXPECT_EQ(told, stream.paused());
  }
  return index;
}

TEST(StreamTest, TheExecutorPausesBeyondTheBytesAndGoesOnAtHalfOfThem) {
  Stream stream(0);
  EXPECT_EQ(fill(stream, 40), 5u);
  stream.arrive(5);  // was on its way
  EXPECT_FALSE(stream.came(10, 40)) << "it has been told";
  for (int kept = 60; kept > 30; kept -= 10) {
    stream.take();
    EXPECT_FALSE(stream.went(10, 40)) << kept;
  }
  stream.take();
  EXPECT_TRUE(stream.went(10, 40));
  EXPECT_FALSE(stream.paused());
}

TEST(StreamTest, WhatIsTakenWholeLeavesNoBytesEvenIfItsSizesHaveChanged) {
  Stream stream(0);
  const std::uint32_t items = fill(stream, 40);
  for (std::uint32_t i = 0; i < items; ++i) {
    stream.take();
    stream.went(1, 40);
  }
  EXPECT_FALSE(stream.paused());
}

TEST(StreamTest, WhoeverWaitsForTheEndLiftsTheLimitOfBytesForGood) {
  Stream stream(0);
  const std::uint32_t items = fill(stream, 40);
  EXPECT_TRUE(stream.lift());
  EXPECT_FALSE(stream.lift());
  stream.arrive(items);
  EXPECT_FALSE(stream.came(1000, 40));
  EXPECT_FALSE(stream.paused());
}

}  // namespace
}  // namespace aktis::core
