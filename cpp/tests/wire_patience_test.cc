#include <gtest/gtest.h>

#include "wire/patience.h"

namespace aktis::wire {
namespace {

using namespace std::chrono_literals;

void wait_often(Patience& patience, std::chrono::nanoseconds time, int times) {
  for (int i = 0; i < times; ++i) patience.waited(time);
}

TEST(PatienceTest, SpinsOnlyWhileWaitsAreShort) {
  Patience patience(50us);
  EXPECT_FALSE(patience.worth_spinning()) << "nothing is known yet";
  wait_often(patience, 80us, 10);
  EXPECT_TRUE(patience.worth_spinning());
  wait_often(patience, 1ms, 10);
  EXPECT_FALSE(patience.worth_spinning());
}

TEST(PatienceTest, OneLongWaitAmongShortOnesChangesNothing) {
  Patience patience(50us);
  wait_often(patience, 10us, 20);
  patience.waited(1s);
  EXPECT_TRUE(patience.worth_spinning());
}

TEST(PatienceTest, NeverSpinsWhenSwitchedOff) {
  Patience patience(0us);
  wait_often(patience, 0us, 20);
  EXPECT_FALSE(patience.worth_spinning());
}

}  // namespace
}  // namespace aktis::wire
