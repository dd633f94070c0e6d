// A whole Connection, accepted or dialled: the peer sends the input and goes. The connection must end,
// exactly once, with a reason, whatever came; the first byte chooses the settings
// (fuzz/connection_settings.h).
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "fuzz/connection_settings.h"
#include "fuzz/socket_directory.h"
#include "wire/connection.h"
#include "wire/endpoint.h"
#include "wire/log.h"

namespace {

using namespace aktis::fuzz;
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
  void on_fds(Connection&, std::vector<UniqueFd> fds) override { require(opened == 1 && !fds.empty()); }
  void on_closed(Connection&, const std::string& reason) override {
    require(++closed == 1 && !reason.empty());
  }
  int opened = 0;
  int closed = 0;
};

// Where dialled connections go.
struct Place {
  SocketDirectory directory;
  std::string address = "unix:" + directory.path() + "/peer";
  UniqueFd listener = listen_on(parse_endpoint(address), address);
};

std::shared_ptr<Connection> accepted(Reactor& reactor, UniqueFd& peer, std::uint8_t settings,
                                     const std::shared_ptr<Delegate>& delegate,
                                     const ConnectionLimits& limits) {
  int pair[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  peer = UniqueFd(pair[0]);
  HandshakePolicy policy;
  policy.token = (settings & kWantsToken) == 0 ? "" : kToken;
  return Connection::accept(reactor, UniqueFd(pair[1]), policy, delegate, limits);
}

std::shared_ptr<Connection> dialled(Reactor& reactor, UniqueFd& peer,
                                    const std::shared_ptr<Delegate>& delegate,
                                    const ConnectionLimits& limits) {
  static const Place place;
  const auto connection = Connection::connect(reactor, place.address, {}, {}, delegate, limits);
  int error = 0;
  peer = accept_from(place.listener.get(), true, error);
  require(error == 0);
  return connection;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (set_log_sink([](LogLevel, std::string_view, std::string_view) {}), true);
  if (!quiet || size < 1 || size > 60000) return 0;  // less than a socket buffer: the peer never blocks
  const std::uint8_t settings = data[0];
  Reactor reactor;
  UniqueFd peer;
  const auto delegate = std::make_shared<Delegate>();
  ConnectionLimits limits;
  limits.max_payload_bytes = 2000;
  limits.max_queued_bytes = 4000;
  limits.max_received_fds = (settings & kTakesDescriptor) == 0 ? 0 : 1;
  const auto connection = (settings & kDialled) == 0 ? accepted(reactor, peer, settings, delegate, limits)
                                                     : dialled(reactor, peer, delegate, limits);
  if (size > 1) {
    const iovec input{const_cast<std::uint8_t*>(data) + 1, size - 1};
    static const UniqueFd anything(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int fds[] = {anything.get(), anything.get()};
    const std::size_t attached = (settings & kDescriptors) / kDescriptor;
    require(send_vector(peer.get(), {&input, 1}, std::span(fds).first(std::min<std::size_t>(attached, 2))) ==
            static_cast<ssize_t>(size - 1));
  }
  for (int i = 0; i < 3; ++i) reactor.poll(TimePoint{});
  peer = UniqueFd();
  for (int i = 0; i < 100 && delegate->closed == 0; ++i) reactor.poll(TimePoint{});
  require(delegate->closed == 1 && connection->state() == Connection::State::kClosed);
  return 0;
}
