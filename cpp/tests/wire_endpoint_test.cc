#include <gtest/gtest.h>

#include <stdexcept>

#include "wire/endpoint.h"

namespace aktis::wire {
namespace {

TEST(EndpointTest, ParsesUnixAndTcp) {
  EXPECT_EQ(parse_endpoint("unix:/run/a").path, "/run/a");
  EXPECT_TRUE(parse_endpoint("unix:/run/a").is_unix);
  EXPECT_EQ(parse_endpoint("tcp:1.2.3.4:80").host, "1.2.3.4");
  EXPECT_EQ(parse_endpoint("tcp:1.2.3.4:80").port, 80);
  EXPECT_EQ(parse_endpoint("tcp:[::1]:65535").host, "::1");
}

TEST(EndpointTest, RefusesEverythingElseAndNamesIt) {
  const std::string bad[] = {"",
                             "unix:",
                             "unix:@abstract",
                             "unix:relative",
                             std::string("unix:/nul\0l", 10),
                             "unix:/" + std::string(107, 'x'),
                             "tcp:",
                             "tcp:1.2.3.4",
                             "tcp::80",
                             "tcp:1.2.3.4:",
                             "tcp:1.2.3.4:65536",
                             "tcp:1.2.3.4:-1",
                             "tcp:1.2.3.4:80x",
                             "tcp:[::1:80",
                             "tcp:localhost:80",
                             "http://1.2.3.4:80"};
  for (const std::string& address : bad) {
    try {
      parse_endpoint(address);
      ADD_FAILURE() << "accepted " << address;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("\"" + std::string(address.c_str())), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace aktis::wire
