// How connections end.
#include <memory>

#include "tests/wire_connection_fixture.h"

namespace aktis::wire {
namespace {

using testing::bytes_of;
using testing::frame_header;
using testing::hello_with;
using testing::policy_with;
using testing::pump;
using testing::ReceivedFrame;
using testing::Recorder;
using testing::Server;

class ConnectionCloseTest : public testing::ConnectionTest {};

TEST_F(ConnectionCloseTest, ClosesOnAMalformedFrameAfterTheHandshake) {
  ConnectionLimits limits;
  limits.max_payload_bytes = 5000;
  Server server(reactor_, directory_.socket(), policy_with(), limits);
  const UniqueFd client = raw_client(directory_.socket());
  const auto hello = encode_hello(hello_with());
  raw_send(client, frame_bytes(FrameType::kHello, testing::text_of(hello)));
  raw_send(client, frame_bytes(FrameType::kFirstCore, std::string(5000, 'a')));
  raw_send(client, frame_bytes(FrameType::kFirstCore, std::string(5001, 'a')));
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  EXPECT_EQ(server.recorder->frames.size(), 1u);
  EXPECT_NE(server.recorder->close_reason.find("announces 5001"), std::string::npos);
}

TEST_F(ConnectionCloseTest, SaysWhenThePeerLeftInTheMiddleOfAFrame) {
  Server server(reactor_, directory_.socket());
  {
    const UniqueFd client = raw_client(directory_.socket());
    raw_send(client, frame_bytes(FrameType::kHello, testing::text_of(encode_hello(hello_with()))));
    raw_send(client, frame_bytes(FrameType::kFirstCore, "cut short").substr(0, 20));
  }
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  EXPECT_EQ(server.recorder->close_reason, "closed by peer in the middle of a frame");
}

TEST_F(ConnectionCloseTest, DeliversWhatThePeerSentBeforeItWent) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->opened == 1; }));
  connection->send(frame_header(40), bytes_of("last words"), Flush::kLater);
  connection->close("done");
  // The peer is gone, and its own send finds out before its read does.
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  for (int i = 0; i < 3; ++i) server.connections[0]->send(frame_header(41), bytes_of("too late"));
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  ASSERT_EQ(server.recorder->frames.size(), 1u);
  EXPECT_EQ(server.recorder->frames[0].payload, "last words");
  EXPECT_EQ(client_->close_reason, "closed here: done");
  EXPECT_EQ(server.recorder->close_reason, "closed by peer");
}

TEST_F(ConnectionCloseTest, ClosesFromInsideItsOwnCallbackWithoutFurtherFrames) {
  Server server(reactor_, directory_.socket());
  server.recorder->when_frame = [&](Connection& connection, const ReceivedFrame&) {
    connection.close("enough");
    server.connections.clear();  // our last pointer to it
  };
  auto connection = connect(directory_.socket());
  for (int i = 0; i < 10; ++i) connection->send(frame_header(40), bytes_of("x"), Flush::kLater);
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1 && client_->closed == 1; }));
  EXPECT_EQ(server.recorder->frames.size(), 1u);
}

TEST_F(ConnectionCloseTest, LetsGoOfItsDelegateAndItselfOnceClosed) {
  Server server(reactor_, directory_.socket());
  std::weak_ptr<Connection> weak;
  std::weak_ptr<Recorder> delegate = client_;
  {
    auto connection = connect(directory_.socket());
    weak = connection;
    ASSERT_TRUE(pump(reactor_, [&] { return client_->opened == 1; }));
    connection->close("test");
  }
  client_.reset();
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  EXPECT_TRUE(weak.expired());
  EXPECT_TRUE(delegate.expired());
}

TEST_F(ConnectionCloseTest, ClosesWhenTooManyDescriptorsCome) {
  Server server(reactor_, directory_.socket());
  server.recorder->when_open = [&](Connection& connection) {
    const int fds[] = {0, 1, 2};
    connection.send_with_fds(frame_header(64), bytes_of("three"), fds);
  };
  ConnectionLimits limits;
  limits.max_received_fds = 1;
  auto connection = connect(directory_.socket(), hello_with(), {}, limits);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("descriptors"), std::string::npos);
  EXPECT_TRUE(client_->fds.empty());
}

}  // namespace
}  // namespace aktis::wire
