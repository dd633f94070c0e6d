// The protocol version is part of every handshake; zero would mean "not filled in".
#include "wire/version.h"

#include <gtest/gtest.h>

namespace aktis {
namespace {

TEST(VersionTest, ProtocolVersionIsNeverZero) { EXPECT_GT(kProtocolVersion, 0u); }

}  // namespace
}  // namespace aktis
