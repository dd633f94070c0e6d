#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "tests/wire_test_support.h"
#include "wire/connection.h"
#include "wire/log.h"

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

TEST_F(ConnectionTest, RefusesAWrongToken) {
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

TEST_F(ConnectionTest, RefusesAnotherMajorVersionAndNamesBoth) {
  Server server(reactor_, directory_.socket());
  Hello hello = hello_with();
  hello.major = 9;
  hello.minor = 4;
  auto connection = connect(directory_.socket(), hello);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("9.4"), std::string::npos) << client_->close_reason;
  EXPECT_NE(client_->close_reason.find("1.0"), std::string::npos) << client_->close_reason;
}

TEST_F(ConnectionTest, RefusesANewProcessBehindAnOldAddress) {
  Server server(reactor_, directory_.socket());
  auto connection = connect(directory_.socket(), hello_with(), WorkerId::random());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("was expected at this address"), std::string::npos);
}

TEST_F(ConnectionTest, RefusesAnotherUser) {
  HandshakePolicy policy = policy_with();
  policy.required_uid = getuid() + 1;
  Server server(reactor_, directory_.socket(), policy);
  auto connection = connect(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("user id"), std::string::npos) << client_->close_reason;
}

TEST_F(ConnectionTest, ReportsAnAddressWhereNothingListens) {
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

TEST_F(ConnectionTest, ClosesAPeerThatNeverSpeaks) {
  ConnectionLimits limits;
  limits.handshake_timeout = std::chrono::milliseconds(30);
  Server server(reactor_, directory_.socket(), policy_with(), limits);
  const UniqueFd silent = raw_client(directory_.socket());
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  EXPECT_NE(server.recorder->close_reason.find("longer than 30 ms"), std::string::npos);
}

TEST_F(ConnectionTest, GivesUpOnAServerThatNeverAnswers) {
  const UniqueFd listener = listen_on(parse_endpoint(directory_.socket()), directory_.socket());
  ConnectionLimits limits;
  limits.handshake_timeout = std::chrono::milliseconds(30);
  auto connection = connect(directory_.socket(), hello_with(), {}, limits);
  ASSERT_TRUE(pump(reactor_, [&] { return client_->closed == 1; }));
  EXPECT_NE(client_->close_reason.find("longer than 30 ms"), std::string::npos);
}

TEST_F(ConnectionTest, RetriesAFullBacklogUntilThereIsRoom) {
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

TEST_F(ConnectionTest, ClosesOnGarbageBeforeTheHello) {
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

TEST_F(ConnectionTest, ClosesOnAMalformedFrameAfterTheHandshake) {
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

TEST_F(ConnectionTest, SaysWhenThePeerLeftInTheMiddleOfAFrame) {
  Server server(reactor_, directory_.socket());
  {
    const UniqueFd client = raw_client(directory_.socket());
    raw_send(client, frame_bytes(FrameType::kHello, testing::text_of(encode_hello(hello_with()))));
    raw_send(client, frame_bytes(FrameType::kFirstCore, "cut short").substr(0, 20));
  }
  ASSERT_TRUE(pump(reactor_, [&] { return server.recorder->closed == 1; }));
  EXPECT_EQ(server.recorder->close_reason, "closed by peer in the middle of a frame");
}

TEST_F(ConnectionTest, DeliversWhatThePeerSentBeforeItWent) {
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

TEST_F(ConnectionTest, ClosesFromInsideItsOwnCallbackWithoutFurtherFrames) {
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

TEST_F(ConnectionTest, LetsGoOfItsDelegateAndItselfOnceClosed) {
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

TEST_F(ConnectionTest, ClosesWhenTooManyDescriptorsCome) {
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
