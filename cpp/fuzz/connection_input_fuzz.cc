// A whole Connection at the end of a socket pair: the peer sends the input and goes. The connection must
// end, exactly once, with a reason, whatever came; the first byte chooses the settings.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "wire/connection.h"
#include "wire/log.h"

namespace {

using namespace aktis::wire;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Delegate : ConnectionDelegate {
  void on_open(Connection&, const Hello&) override { require(++opened == 1 && closed == 0); }
  void on_frame(Connection& connection, const Frame& frame) override {
    require(opened == 1 && closed == 0);
    connection.send({0, 40, 0, frame.header.correlation},
                    frame.payload.first(std::min<std::size_t>(10, frame.payload.size())),
                    frame.header.flags % 2 == 0 ? Flush::kNow : Flush::kLater);
    if (frame.header.flags == 0xdead) connection.close("asked to");
  }
  void on_closed(Connection&, const std::string& reason) override {
    require(++closed == 1 && !reason.empty());
  }
  int opened = 0;
  int closed = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (set_log_sink([](LogLevel, std::string_view, std::string_view) {}), true);
  if (!quiet || size < 1 || size > 60000) return 0;  // less than a socket buffer: the peer never blocks
  Reactor reactor;
  int pair[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  UniqueFd peer(pair[0]);
  const auto delegate = std::make_shared<Delegate>();
  HandshakePolicy policy;
  policy.token = data[0] % 2 == 0 ? "" : "secret";
  ConnectionLimits limits;
  limits.max_payload_bytes = 2000;
  limits.max_queued_bytes = 4000;
  limits.max_received_fds = data[0] % 3;
  const auto connection = Connection::accept(reactor, UniqueFd(pair[1]), policy, delegate, limits);
  require(::send(peer.get(), data + 1, size - 1, MSG_NOSIGNAL) == static_cast<ssize_t>(size - 1) ||
          size == 1);
  for (int i = 0; i < 3; ++i) reactor.poll(TimePoint{});
  peer = UniqueFd();
  for (int i = 0; i < 100 && delegate->closed == 0; ++i) reactor.poll(TimePoint{});
  require(delegate->closed == 1 && connection->state() == Connection::State::kClosed);
  return 0;
}
