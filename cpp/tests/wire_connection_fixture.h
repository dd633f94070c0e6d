// What the tests of Connection share: a reactor, a recording client, raw sockets that misbehave.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/wire_test_support.h"
#include "wire/log.h"

namespace aktis::wire::testing {

class ConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel, std::string_view, std::string_view message) { logged_ += message; });
  }
  void TearDown() override { set_log_sink({}); }

  std::shared_ptr<Connection> connect(const std::string& address, const Hello& hello = hello_with(),
                                      const WorkerId& expected = {}, const ConnectionLimits& limits = {}) {
    return Connection::connect(reactor_, address, hello, expected, client_, limits);
  }
  // A socket that speaks for itself, to misbehave with.
  UniqueFd raw_client(const std::string& address) {
    ConnectStart start = start_connect(parse_endpoint(address));
    EXPECT_TRUE(start.error == 0 || start.error == EINPROGRESS);
    return std::move(start.fd);
  }
  void raw_send(const UniqueFd& fd, std::string_view data) {
    ASSERT_EQ(::send(fd.get(), data.data(), data.size(), MSG_NOSIGNAL), static_cast<ssize_t>(data.size()));
  }
  std::string frame_bytes(FrameType type, std::string_view payload) {
    std::string bytes(kHeaderBytes, '\0');
    encode_header({static_cast<std::uint32_t>(payload.size()), static_cast<std::uint16_t>(type), 0, 0},
                  reinterpret_cast<std::byte*>(bytes.data()));
    return bytes.append(payload);
  }

  std::string logged_;
  testing::TemporaryDirectory directory_;
  Reactor reactor_;
  std::shared_ptr<Recorder> client_ = std::make_shared<Recorder>();
};

}  // namespace aktis::wire::testing
