// The store's shell: what crosses the socket. What the messages mean is tested in plasma_engine_test.
#include <unistd.h>

#include "plasma/store.h"
#include "plasma/sync_client.h"
#include "tests/plasma_harness.h"
#include "wire/log.h"

namespace aktis::plasma {
namespace {

using testing::in_ms;
using testing::object_id;
using testing::ScratchDirectory;
using testing::small_store;
using testing::TestClient;

// A peer that has shaken hands and says what it likes.
class RawPeer final : public wire::ConnectionDelegate, public std::enable_shared_from_this<RawPeer> {
 public:
  void on_open(wire::Connection&, const wire::Hello& hello) override { server_ = hello; }
  void on_frame(wire::Connection&, const wire::Frame&) override { ++frames_; }
  void on_fds(wire::Connection&, std::vector<wire::UniqueFd> fds) override { fds_ += fds.size(); }
  void on_closed(wire::Connection&, const std::string& reason) override { reason_ = reason; }

  wire::Reactor reactor_;
  wire::Hello server_;
  std::size_t frames_ = 0, fds_ = 0;
  std::string reason_;
};

class PlasmaStore : public ::testing::Test {
 protected:
  void SetUp() override {
    wire::set_log_sink([this](wire::LogLevel, std::string_view, std::string_view message) {
      const std::lock_guard lock(mutex_);
      logged_.append(message).append("\n");
    });
    store.start();
  }
  void TearDown() override {
    store.stop();
    wire::set_log_sink({});
  }
  std::string logged() {
    const std::lock_guard lock(mutex_);
    return logged_;
  }
  // Connects, says one thing, and polls until the store has closed the connection.
  std::string reason_after(PlasmaFrame type, std::span<const std::byte> payload) {
    auto peer = std::make_shared<RawPeer>();
    wire::Hello hello;
    hello.sender = WorkerId::random();
    hello.token = "secret";
    wire::ConnectionLimits limits;
    limits.max_received_fds = 4;
    auto connection = wire::Connection::connect(peer->reactor_, store.address(), hello, {}, peer, limits);
    wire::FrameHeader header;
    header.type = static_cast<std::uint16_t>(type);
    const auto deadline = in_ms(5000);
    while (peer->frames_ == 0 && wire::Clock::now() < deadline) peer->reactor_.poll(deadline);
    EXPECT_EQ(peer->fds_, 1u);
    connection->send(header, payload);
    while (peer->reason_.empty() && wire::Clock::now() < deadline) peer->reactor_.poll(deadline);
    return peer->reason_;
  }

  ScratchDirectory directory;
  Store store{small_store(directory)};

 private:
  std::mutex mutex_;
  std::string logged_;
};

TEST_F(PlasmaStore, ViolationsCloseTheConnectionWithALoggedReason) {
  OpWriter release;
  release.release(64, 1);
  EXPECT_EQ(reason_after(PlasmaFrame::kOps, release.view()), "closed by peer");
  EXPECT_NE(logged().find("release of 1 pins at 64, which this client does not hold"), std::string::npos);
  EXPECT_NE(logged().find("process " + std::to_string(::getpid())), std::string::npos);
  const std::byte junk[] = {std::byte{0xff}};
  EXPECT_EQ(reason_after(PlasmaFrame::kOps, junk), "closed by peer");
  EXPECT_EQ(reason_after(PlasmaFrame::kCreate, junk), "closed by peer");
  EXPECT_EQ(reason_after(PlasmaFrame::kObjects, junk), "closed by peer");
  EXPECT_EQ(store.statistics().engine.violations, 4u);
  TestClient client(store.address());  // and goes on
  client.connect();
  client.put(object_id(1), 100, 1);
}

TEST_F(PlasmaStore, FrameBeyondTheLimitIsRefused) {
  const std::vector<std::byte> large(5u << 20);
  EXPECT_EQ(reason_after(PlasmaFrame::kOps, large), "closed by peer");
  EXPECT_NE(logged().find("malformed frame"), std::string::npos);
}

TEST_F(PlasmaStore, StopRemovesTheSocketAndMayBeRepeated) {
  const std::string path = store.address().substr(5);
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
  store.stop();
  store.stop();
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
  EXPECT_EQ(store.statistics().engine.clients, 0u);
  store.start();
  TestClient client(store.address());
  client.connect();
}

TEST_F(PlasmaStore, ClientsBeyondTheLimitAreRefused) {
  store.stop();
  auto config = small_store(directory);
  config.max_clients = 1;
  Store limited(config);
  limited.start();
  TestClient first(limited.address()), second(limited.address());
  first.connect();
  EXPECT_THROW(second.connect(), std::runtime_error);
  EXPECT_EQ(limited.statistics().refused_connections, 1u);
  EXPECT_NE(logged().find("too many clients (1)"), std::string::npos);
}

TEST_F(PlasmaStore, SecondStoreAtTheSameAddressFails) {
  Store second(small_store(directory));
  EXPECT_THROW(second.start(), std::system_error);
}

TEST_F(PlasmaStore, DescriptorsOfDifferentStoresAreRefused) {
  Store other(small_store(directory, 8u << 20));
  auto config = small_store(directory);
  config.arena_fd = ::dup(store.arena_fd());
  config.table_fd = ::dup(other.table_fd());
  EXPECT_THROW(Store{config}, std::runtime_error);
  auto half = small_store(directory);
  half.arena_fd = ::dup(store.arena_fd());
  EXPECT_THROW(Store{half}, std::runtime_error);
  ::close(half.arena_fd);
}

TEST_F(PlasmaStore, AllocationWarmsPagesAhead) {
  EXPECT_EQ(store.statistics().resident_bytes, 0u);
  TestClient client(store.address());
  client.connect();
  client.put(object_id(1), 100, 1);
  const auto deadline = in_ms(5000);
  while (store.statistics().engine.warm_free_bytes < (1u << 20) && wire::Clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_GE(store.statistics().resident_bytes, 1u << 20);
}

TEST_F(PlasmaStore, SyncClientWaitsAndGivesUp) {
  ClientConfig config;
  config.address = store.address();
  config.hello.sender = WorkerId::random();
  config.hello.token = "secret";
  SyncClient reader(config);
  reader.client().connect(in_ms(5000));
  EXPECT_EQ(reader.get(object_id(1), in_ms(5)).status, GetStatus::kTimeout);
  EXPECT_FALSE(reader.contains(object_id(1), in_ms(5000)));
  TestClient writer(store.address());
  writer.connect();
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {  // several waiters, one answer, a pin for each
    threads.emplace_back([&] {
      const auto result = reader.get(object_id(1), in_ms(5000));
      EXPECT_EQ(result.status, GetStatus::kReady);
      EXPECT_TRUE(testing::filled(result.view, 100, 7));
      reader.client().unpin(object_id(1));
    });
  }
  writer.put(object_id(1), 100, 7);
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(reader.contains(object_id(1), in_ms(5000)));
  EXPECT_EQ(reader.client().statistics().mapped_objects, 0u);
  store.stop();
  EXPECT_EQ(reader.get(object_id(2), in_ms(5000)).status, GetStatus::kDisconnected);
}

}  // namespace
}  // namespace aktis::plasma
