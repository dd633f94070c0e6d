// Listener of wire/connection.h.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "tests/wire_test_support.h"
#include "wire/log.h"

namespace aktis::wire {
namespace {

using testing::pump;

class ListenerTest : public ::testing::Test {
 protected:
  std::shared_ptr<Listener> listen(const std::string& address) {
    return Listener::listen(reactor_, address, [this](UniqueFd fd, const PeerCredentials& peer) {
      accepted_.push_back(std::move(fd));
      peers_.push_back(peer);
    });
  }

  testing::TemporaryDirectory directory_;
  Reactor reactor_;
  std::vector<UniqueFd> accepted_;
  std::vector<PeerCredentials> peers_;
};

TEST_F(ListenerTest, AcceptsEverybodyWhoWaits) {
  const auto listener = listen(directory_.socket());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 150; ++i) clients.push_back(start_connect(parse_endpoint(directory_.socket())).fd);
  ASSERT_TRUE(pump(reactor_, [&] { return accepted_.size() == clients.size(); }));
  EXPECT_EQ(peers_[0].pid, getpid());
  EXPECT_EQ(peers_[0].uid, getuid());
}

TEST_F(ListenerTest, TellsThePortThatWasChosen) {
  const auto listener = listen("tcp:127.0.0.1:0");
  EXPECT_GT(parse_endpoint(listener->address()).port, 0);
  const auto v6 = listen("tcp:[::1]:0");
  EXPECT_EQ(v6->address().substr(0, 10), "tcp:[::1]:");
}

TEST_F(ListenerTest, CloseRemovesItsFileOnlyOnceAndOnlyItsOwn) {
  const auto listener = listen(directory_.socket());
  ASSERT_TRUE(std::filesystem::exists(directory_.path("s")));
  std::filesystem::remove(directory_.path("s"));
  const auto successor = listen(directory_.socket());
  listener->close();
  EXPECT_TRUE(std::filesystem::exists(directory_.path("s"))) << "removed the successor's file";
  successor->close();
  EXPECT_FALSE(std::filesystem::exists(directory_.path("s")));
  successor->close();
}

TEST_F(ListenerTest, RemovesItsFileWhenTheReactorGoesFirst) {
  {
    Reactor reactor;
    Listener::listen(reactor, directory_.socket(), [](UniqueFd, const PeerCredentials&) {});
    EXPECT_TRUE(std::filesystem::exists(directory_.path("s")));
  }
  EXPECT_FALSE(std::filesystem::exists(directory_.path("s")));
}

TEST_F(ListenerTest, AForkedChildLeavesTheFileAlone) {
  auto listener = listen(directory_.socket());
  const pid_t child = fork();
  if (child == 0) {
    listener->close();
    listener.reset();
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(std::filesystem::exists(directory_.path("s")));
  const UniqueFd client = start_connect(parse_endpoint(directory_.socket())).fd;
  EXPECT_TRUE(pump(reactor_, [&] { return accepted_.size() == 1; }))
      << "the child broke the parent's reactor";
}

TEST_F(ListenerTest, ErrorsNameTheAddress) {
  try {
    listen(directory_.socket("absent/s"));
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find("absent/s"), std::string::npos);
  }
}

TEST_F(ListenerTest, PausesWithoutDescriptorsAndThenGoesOn) {
  std::string logged;
  set_log_sink([&](LogLevel, std::string_view, std::string_view message) { logged += message; });
  const auto listener = listen(directory_.socket());
  // One that is accepted, too: where UndefinedBehaviorSanitizer looks at a type for the first time it needs
  // descriptors.
  const UniqueFd first = start_connect(parse_endpoint(directory_.socket())).fd;
  ASSERT_TRUE(pump(reactor_, [&] { return accepted_.size() == 1; }));
  const UniqueFd client = start_connect(parse_endpoint(directory_.socket())).fd;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = 3;  // below every descriptor that a new one could get
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  int rounds = 0;
  const TimePoint until = Clock::now() + std::chrono::milliseconds(60);
  while (Clock::now() < until) {
    reactor_.poll(until);
    ++rounds;
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LE(rounds, 4) << "the poller must not spin";
  EXPECT_EQ(accepted_.size(), 1u);
  EXPECT_TRUE(pump(reactor_, [&] { return accepted_.size() == 2; }));
  set_log_sink({});
  EXPECT_NE(logged.find("cannot accept on " + directory_.socket()), std::string::npos);
}

}  // namespace
}  // namespace aktis::wire
