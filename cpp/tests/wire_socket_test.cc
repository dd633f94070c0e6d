#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <system_error>

#include "tests/wire_test_support.h"
#include "wire/socket.h"

namespace aktis::wire {
namespace {

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFdTest, ClosesWhatItOwns) {
  const int raw = dup(0);
  {
    const UniqueFd fd(raw);
  }
  EXPECT_FALSE(is_open(raw));
  const int first = dup(0), second = dup(0);
  UniqueFd a(first), b(second);
  a = std::move(b);
  EXPECT_FALSE(is_open(first));
  EXPECT_TRUE(is_open(second));
  const UniqueFd again(a.release());
  EXPECT_FALSE(a);
}

TEST(SocketTest, AListenersFileIsForItsUserOnly) {
  const testing::TemporaryDirectory directory;
  const mode_t before = umask(0);
  const UniqueFd fd = listen_on(parse_endpoint(directory.socket()), directory.socket());
  umask(before);
  struct stat found{};
  ASSERT_EQ(lstat(directory.path("s").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777u, 0600u);
}

TEST(SocketTest, AStaleFileIsReplacedALivingListenerIsNot) {
  const testing::TemporaryDirectory directory;
  const Endpoint endpoint = parse_endpoint(directory.socket());
  {
    const UniqueFd gone = listen_on(endpoint, directory.socket());
  }  // leaves its file behind
  const UniqueFd alive = listen_on(endpoint, directory.socket());
  try {
    listen_on(endpoint, directory.socket());
    FAIL() << "took the address of a living listener";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), EADDRINUSE);
    EXPECT_NE(std::string(error.what()).find(directory.socket()), std::string::npos);
  }
}

TEST(SocketTest, AnOrdinaryFileIsNeverReplaced) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory.path("s")) << "precious";
  EXPECT_THROW(listen_on(parse_endpoint(directory.socket()), directory.socket()), std::system_error);
  EXPECT_TRUE(std::filesystem::exists(directory.path("s")));
}

TEST(SocketTest, TcpSocketsSendSmallFramesAtOnce) {
  const UniqueFd listener = listen_on(parse_endpoint("tcp:127.0.0.1:0"), "tcp:127.0.0.1:0");
  Endpoint endpoint = parse_endpoint("tcp:127.0.0.1:0");
  endpoint.port = bound_port(listener.get());
  ASSERT_GT(endpoint.port, 0);
  const ConnectStart start = start_connect(endpoint);
  int on = 0;
  socklen_t length = sizeof(on);
  ASSERT_EQ(getsockopt(start.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
  EXPECT_NE(on, 0);
  EXPECT_FALSE(peer_credentials(start.fd.get()).known);
}

TEST(SocketTest, SocketsAreClosedOnExecAndDoNotBlock) {
  const testing::TemporaryDirectory directory;
  const UniqueFd listener = listen_on(parse_endpoint(directory.socket()), directory.socket());
  const ConnectStart start = start_connect(parse_endpoint(directory.socket()));
  int error = 0;
  const UniqueFd accepted = accept_from(listener.get(), true, error);
  for (const int fd : {listener.get(), start.fd.get(), accepted.get()}) {
    EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(fcntl(fd, F_GETFL) & O_NONBLOCK);
  }
  EXPECT_FALSE(accept_from(listener.get(), true, error));
  EXPECT_EQ(error, EAGAIN);
}

TEST(SocketTest, TheForkGenerationGrowsInTheChildOnly) {
  const std::uint64_t before = fork_generation();
  const pid_t child = fork();
  if (child == 0) _exit(fork_generation() == before + 1 ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(fork_generation(), before);
}

}  // namespace
}  // namespace aktis::wire
