// Connecting, the handshake, and who is refused.
#include <sys/socket.h>
#include <unistd.h>

#include "tests/wire_connection_fixture.h"

namespace aktis::wire {
namespace {

using testing::bytes_of;
using testing::frame_header;
using testing::hello_with;
using testing::policy_with;
using testing::pump;
using testing::Recorder;
using testing::Server;

class ConnectionHandshakeTest : public testing::ConnectionTest {};

TEST_F(ConnectionHandshakeTest, RefusesAWrongToken) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket(), hello_with("wrong"));
  for (int i = 0; i < 50; ++i) connection->send(frame_header(40), bytes_of("early"));
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1 && server.recorder->closed == 1; }));
  EXPECT_EQ(client_->close_reason, "refused: the cluster token is not the one of this cluster");
  EXPECT_EQ(client_->opened + server.recorder->opened, 0);
  EXPECT_TRUE(server.recorder->frames.empty()) << "frames of a refused peer were looked at";
  EXPECT_EQ(connection->state(), Connection::State::kClosed);
  EXPECT_EQ(connection->send(frame_header(40), bytes_of("late")), SendResult::kClosed);
  EXPECT_NE(logged_.find("token"), std::string::npos);
  EXPECT_EQ(logged_.find("secret"), std::string::npos);
}

TEST_F(ConnectionHandshakeTest, RefusesAnotherMajorVersionAndNamesBoth) {
  Server server(reactor_, directory_.socket());
  Hello hello = hello_with();
  hello.major = 9;
  hello.minor = 4;
  auto connection = connect(directory_.socket(), hello);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("9.4"), std::string::npos) << client_->close_reason;
  EXPECT_NE(client_->close_reason.find("1.0"), std::string::npos) << client_->close_reason;
}

TEST_F(ConnectionHandshakeTest, RefusesANewProcessBehindAnOldAddress) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket(), hello_with(), WorkerId::random());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("was expected at this address"), std::string::npos);
}

TEST_F(ConnectionHandshakeTest, RefusesAnotherUser) {
  HandshakePolicy policy = policy_with();
  policy.required_uid = getuid() + 1;
  Server server(reactor_, directory_.socket(), policy);
  auto connection = connect(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("user id"), std::string::npos) << client_->close_reason;
}

TEST_F(ConnectionHandshakeTest, ClosesAPeerThatNeverSpeaks) {
  ConnectionLimits limits;
  limits.handshake_timeout = std::chrono::milliseconds(30);
  Server server(reactor_, directory_.socket(), policy_with(), limits);
  const UniqueFd silent = raw_client(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  EXPECT_NE(server.recorder->close_reason.find("longer than 30 ms"), std::string::npos);
}

TEST_F(ConnectionHandshakeTest, GivesUpOnAServerThatNeverAnswers) {
  const UniqueFd listener = listen_on(parse_endpoint(directory_.socket()), directory_.socket());
  ConnectionLimits limits;
  limits.handshake_timeout = std::chrono::milliseconds(30);
  auto connection = connect(directory_.socket(), hello_with(), {}, limits);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("longer than 30 ms"), std::string::npos);
}

TEST_F(ConnectionHandshakeTest, ClosesOnGarbageBeforeTheHello) {
  const std::string inputs[] = {
      std::string(64, '\0'),
      std::string(64, '\xff'),
      "GET / HTTP/1.1\r\nHost: example\r\n\r\n",
      frame_bytes(FrameType::kFirstCore, "not a hello"),
      frame_bytes(FrameType::kHello, "not a hello"),
      frame_bytes(FrameType::kHello, std::string(kMaxHandshakePayloadBytes + 1, 'h')),
  };
  Server server(reactor_, directory_.socket());
  int expected = 0;
  for (const std::string& input : inputs) {
    const UniqueFd client = raw_client(directory_.socket());
    raw_send(client, input);
    ++expected;
    ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == expected; }));
    EXPECT_FALSE(server.recorder->close_reason.empty());
  }
  EXPECT_EQ(server.recorder->opened, 0);
  auto connection = connect(directory_.socket());
  EXPECT_TRUE(pump(reactor_, [&] { return client_->opened == 1; })) << "the server must go on";
}

TEST_F(ConnectionHandshakeTest, ReportsAnAddressWhereNothingListens) {
  auto unix_connection = connect(directory_.socket("absent"));
  EXPECT_EQ(client_->closed, 0) << "on_closed must come on the poller";
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("cannot connect to unix:"), std::string::npos);

  client_ = std::make_shared<Recorder>();
  std::string address;
  {
    Server server(reactor_, "tcp:127.0.0.1:0");
    address = server.listener->address();
  }
  auto tcp_connection = connect(address);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("Connection refused"), std::string::npos) << client_->close_reason;
}

TEST_F(ConnectionHandshakeTest, RetriesAFullBacklogUntilThereIsRoom) {
  const UniqueFd listener = listen_on(parse_endpoint(directory_.socket()), directory_.socket());
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  const UniqueFd occupant = raw_client(directory_.socket());
  auto connection = connect(directory_.socket());
  EXPECT_EQ(connection->state(), Connection::State::kConnecting);
  connection->send(frame_header(40), bytes_of("waited"));
  int error = 0;
  const UniqueFd first = accept_from(listener.get(), true, error);
  UniqueFd second;
  ASSERT_TRUE(pump(reactor_, [&] {
    second = accept_from(listener.get(), true, error);
    return static_cast<bool>(second);
  }));
  auto recorder = std::make_shared<Recorder>();
  auto accepted = Connection::accept(reactor_, std::move(second), policy_with(), recorder);
  ASSERT_TRUE(pump(reactor_, [&] { return recorder->frames.size() == 1; }));
}

}  // namespace
}  // namespace aktis::wire
