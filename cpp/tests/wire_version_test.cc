// The major protocol version is part of every handshake; zero would mean "not filled in".
#include <gtest/gtest.h>

#include "wire/frame.h"

namespace aktis::wire {
namespace {

TEST(VersionTest, ProtocolMajorIsNeverZero) { EXPECT_GT(kProtocolMajor, 0u); }

}  // namespace
}  // namespace aktis::wire
