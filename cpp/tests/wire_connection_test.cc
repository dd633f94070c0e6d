// What an open Connection carries.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/wire_connection_fixture.h"
#include "wire/connection.h"

namespace aktis::wire {
namespace {

using testing::bytes_of;
using testing::frame_header;
using testing::hello_with;
using testing::pump;
using testing::ReceivedFrame;
using testing::Server;

class ConnectionTest : public testing::ConnectionTest {};

TEST_F(ConnectionTest, OpensAndCarriesFramesBothWays) {
  Server server(reactor_, directory_.socket());
  server.recorder->when_frame = [](Connection& connection, const ReceivedFrame& frame) {
    connection.send(frame_header(41, frame.header.correlation), bytes_of("to " + frame.payload));
  };
  const Hello hello = hello_with();
  auto connection = connect(directory_.socket(), hello);
  connection->send(frame_header(40, 7, 3), bytes_of("you"));
  ASSERT_TRUE(pump(reactor_, [&] { return client_->frames.size() == 1; }));
  EXPECT_EQ(client_->frames[0].header.type, 41);
  EXPECT_EQ(client_->frames[0].header.correlation, 7u);
  EXPECT_EQ(client_->frames[0].payload, "to you");
  EXPECT_EQ(server.recorder->frames[0].header.flags, 3);
  EXPECT_EQ(client_->opened, 1);
  EXPECT_EQ(connection->state(), Connection::State::kOpen);
  EXPECT_EQ(connection->peer().sender, server.policy.self.sender);
  EXPECT_TRUE(connection->peer().token.empty()) << "the token must not be kept or sent back";
  EXPECT_EQ(server.recorder->peer.sender, hello.sender);
  EXPECT_EQ(connection->credentials().pid, getpid());
  EXPECT_EQ(server.connections[0]->credentials().uid, getuid());
}

TEST_F(ConnectionTest, CarriesFramesOverTcp) {
  Server server(reactor_, "tcp:127.0.0.1:0");
  server.recorder->when_frame = [](Connection& connection, const ReceivedFrame& frame) {
    connection.send(frame_header(41), bytes_of(frame.payload));
  };
  auto connection = connect(server.listener->address());
  connection->send(frame_header(40), bytes_of("over tcp"));
  ASSERT_TRUE(pump(reactor_, [&] { return client_->frames.size() == 1; }));
  EXPECT_EQ(client_->frames[0].payload, "over tcp");
}

TEST_F(ConnectionTest, KeepsTheOrderWhateverTheFlushMode) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  std::vector<std::string> sent;
  for (int i = 0; i < 3000; ++i) {
    // From nothing to more than a socket buffer holds.
    sent.push_back(std::string(static_cast<std::size_t>(i) * 97 % 5000, 'x') + std::to_string(i));
    connection->send(frame_header(40), bytes_of(sent.back()), i % 7 == 0 ? Flush::kNow : Flush::kLater);
  }
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->frames.size() == sent.size(); }));
  for (std::size_t i = 0; i < sent.size(); ++i) ASSERT_EQ(server.recorder->frames[i].payload, sent[i]) << i;
  EXPECT_EQ(connection->queued_bytes(), 0u);
}

TEST_F(ConnectionTest, WritesManyLaterFramesInOneCall) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->opened == 1; }));
  const auto before = connection->statistics();
  for (int i = 0; i < 100; ++i) connection->send(frame_header(40), bytes_of("small"), Flush::kLater);
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->frames.size() == 100; }));
  EXPECT_EQ(connection->statistics().writes - before.writes, 1u);
  EXPECT_EQ(connection->statistics().frames_out - before.frames_out, 100u);
}

TEST_F(ConnectionTest, SendsAtOnceOnAnIdleConnectionWithoutThePoller) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->opened == 1; }));
  const std::string a = "scattered ", b = "", c = "payload";
  const std::span<const std::byte> segments[] = {bytes_of(a), bytes_of(b), bytes_of(c)};
  EXPECT_EQ(connection->send(frame_header(40), segments), SendResult::kSent);
  EXPECT_EQ(connection->queued_bytes(), 0u);
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->frames.size() == 1; }));
  EXPECT_EQ(server.recorder->frames[0].payload, "scattered payload");
}

TEST_F(ConnectionTest, MovesAFrameLargerThanAnyBuffer) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  std::string large(20u << 20, 'l');
  large.replace(large.size() - 3, 3, "end");
  connection->send(frame_header(40), bytes_of(large));
  connection->send(frame_header(40), bytes_of("after"));
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->frames.size() == 2; }));
  EXPECT_EQ(server.recorder->frames[0].payload, large);
  EXPECT_EQ(server.recorder->frames[1].payload, "after");
}

TEST_F(ConnectionTest, RefusesWhatTheQueueCannotHold) {
  Server server(reactor_, directory_.socket());
  ConnectionLimits limits;
  limits.max_queued_bytes = 1u << 20;
  auto connection = connect(directory_.socket(), hello_with(), {}, limits);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->opened == 1; }));
  const std::string payload(100u << 10, 'q');
  std::size_t accepted = 0;
  SendResult result = SendResult::kSent;
  for (int i = 0; i < 1000 && result != SendResult::kQueueFull; ++i) {
    result = connection->send(frame_header(40), bytes_of(payload));
    if (result != SendResult::kQueueFull) ++accepted;
  }
  ASSERT_EQ(result, SendResult::kQueueFull);
  EXPECT_LE(connection->queued_bytes(), limits.max_queued_bytes);
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->frames.size() == accepted; }));
  EXPECT_EQ(connection->send(frame_header(40), bytes_of(payload)), SendResult::kSent);
}

TEST_F(ConnectionTest, ThrowsForAPayloadBeyondTheLimit) {
  Server server(reactor_, directory_.socket());
  ConnectionLimits limits;
  limits.max_payload_bytes = 1000;
  auto connection = connect(directory_.socket(), hello_with(), {}, limits);
  EXPECT_THROW(connection->send(frame_header(40), bytes_of(std::string(1001, 'x'))), std::length_error);
}

TEST_F(ConnectionTest, AnswersPings) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  connection->send(frame_header(static_cast<std::uint16_t>(FrameType::kPing), 99),
                   std::span<const std::byte>{});
  ASSERT_TRUE(pump(reactor_, [&] { return client_->frames.size() == 1; }));
  EXPECT_EQ(client_->frames[0].header.type, static_cast<std::uint16_t>(FrameType::kPong));
  EXPECT_EQ(client_->frames[0].header.correlation, 99u);
  EXPECT_TRUE(server.recorder->frames.empty());
}

TEST_F(ConnectionTest, PassesDescriptors) {
  Server server(reactor_, directory_.socket());
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  server.recorder->when_open = [&](Connection& connection) {
    const int fds[] = {write_end.get()};
    EXPECT_EQ(connection.send_with_fds(frame_header(64), bytes_of("a pipe"), fds), SendResult::kSent);
  };
  ConnectionLimits limits;
  limits.max_received_fds = 2;
  auto connection = connect(directory_.socket(), hello_with(), {}, limits);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->frames.size() == 1; }));
  ASSERT_EQ(client_->fds.size(), 1u);
  ASSERT_EQ(::write(client_->fds[0].get(), "x", 1), 1);
  char received = 0;
  ASSERT_EQ(::read(read_end.get(), &received, 1), 1);
  EXPECT_EQ(received, 'x');
}

TEST_F(ConnectionTest, ManyThreadsMaySend) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  constexpr int kThreads = 4, kEach = 2000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const auto correlation = static_cast<std::uint64_t>(i);
        connection->send(frame_header(static_cast<std::uint16_t>(40 + t), correlation),
                         bytes_of(std::string(static_cast<std::size_t>(i) % 300, 'm')),
                         i % 2 == 0 ? Flush::kLater : Flush::kNow);
      }
    });
  }
  EXPECT_TRUE(pump(reactor_, [&] { return server.recorder->frames.size() == kThreads * kEach; }));
  for (auto& thread : threads) thread.join();
  std::uint64_t next[kThreads] = {};
  for (const auto& frame : server.recorder->frames) {
    ASSERT_EQ(frame.header.correlation, next[frame.header.type - 40]++) << "order within a thread";
  }
}

TEST_F(ConnectionTest, LaterFramesOfAnotherThreadGoOutWhileThePollerWaits) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->opened == 1; }));
  std::atomic<bool> received{false};
  server.recorder->when_frame = [&](Connection&, const ReceivedFrame&) { received = true; };
  std::thread poller([&] {
    const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
    while (!received && Clock::now() < deadline) reactor_.poll(deadline);
  });
  connection->send(frame_header(40), bytes_of("later"), Flush::kLater);
  poller.join();
  EXPECT_TRUE(received);
}

}  // namespace
}  // namespace aktis::wire
