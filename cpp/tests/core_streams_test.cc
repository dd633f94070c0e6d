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

}  // namespace
}  // namespace aktis::core
