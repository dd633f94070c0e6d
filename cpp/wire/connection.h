// One framed connection to a peer over a Unix or TCP socket.
//
// States: CONNECTING (TCP only) -> HANDSHAKE -> OPEN -> CLOSED. A client may send frames before its
// HELLO has been acknowledged; they arrive after it, and a server drops the connection before it looks
// at them when the HELLO is refused.
//
// Sending is thread-safe and never blocks. A frame for an idle connection is written at once by the
// sending thread; what does not fit, and what is sent with Flush::kLater, is queued and written by the
// poller (or by the sender once kFlushBytes are queued), many frames in one sendmsg.
// Receiving happens on the polling thread, without a lock held.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "wire/frame.h"
#include "wire/handshake.h"
#include "wire/reactor.h"
#include "wire/socket.h"

namespace aktis::wire {

// kLater: at the latest Reactor::kFlushDelay later, or when the sender has queued kFlushBytes.
enum class Flush { kNow, kLater };
inline constexpr std::size_t kFlushBytes = 32u << 10;
enum class SendResult { kSent, kQueued, kClosed, kQueueFull };

struct ConnectionLimits {
  std::size_t max_payload_bytes = kDefaultMaxPayloadBytes;
  std::size_t max_queued_bytes = 256u << 20;  // beyond: kQueueFull, and nothing of the frame is queued
  std::chrono::milliseconds handshake_timeout{5000};
  std::size_t max_received_fds = 0;  // more than this in one message closes the connection
};

class Connection;

// Receives what happens on a connection; all calls come on the polling thread, perhaps before connect()
// or accept() has returned. on_closed comes exactly once and is the last call; the connection then lets
// go of its delegate. After close() no more frames come. Must not throw.
class ConnectionDelegate {
 public:
  virtual ~ConnectionDelegate() = default;
  virtual void on_open(Connection&, const Hello& /* the peer's */) {}
  virtual void on_frame(Connection& connection, const Frame& frame) = 0;
  // Descriptors that came with the bytes read last (only with max_received_fds > 0); after on_open, before
  // the frames of that read.
  virtual void on_fds(Connection&, std::vector<UniqueFd>) {}
  // `reason`: "closed by peer", "refused: ...", "malformed frame: ...", "closed here: ..."
  virtual void on_closed(Connection& connection, const std::string& reason) = 0;
};

// The reactor keeps a connection alive until it is closed: one that is not needed any more must be
// closed, letting go of the pointer is not enough. The reactor must outlive every call but the destructor.
class Connection final : public EventHandler, public std::enable_shared_from_this<Connection> {
 public:
  enum class State : std::uint8_t { kConnecting, kHandshake, kOpen, kClosed };

  // Connects without blocking and queues the HELLO. Address: "unix:/path" or "tcp:host:port" (numeric
  // host). An error that is known at once (nothing listens) is reported through on_closed like any other.
  // `expected_peer`: the id that the peer must announce (nil: any): a new process behind an old address
  // is refused.
  static std::shared_ptr<Connection> connect(Reactor& reactor, const std::string& address, const Hello& hello,
                                             const WorkerId& expected_peer,
                                             std::shared_ptr<ConnectionDelegate> delegate,
                                             const ConnectionLimits& limits = {});
  // Takes an accepted socket; waits for the peer's HELLO and checks it against `policy`.
  static std::shared_ptr<Connection> accept(Reactor& reactor, UniqueFd fd, const HandshakePolicy& policy,
                                            std::shared_ptr<ConnectionDelegate> delegate,
                                            const ConnectionLimits& limits = {});
  ~Connection() override;

  // Sends one frame whose payload is the concatenation of `segments`. header.payload_bytes is filled in.
  // Throws std::length_error for a payload beyond max_payload_bytes: the peer would close the connection.
  SendResult send(FrameHeader header, std::span<const std::span<const std::byte>> segments,
                  Flush flush = Flush::kNow);
  SendResult send(FrameHeader header, std::span<const std::byte> payload, Flush flush = Flush::kNow);
  // Sends one small frame with descriptors attached (Unix sockets, at most 16, only when nothing is
  // queued: used right after the handshake). kQueueFull: something is queued, nothing was sent.
  SendResult send_with_fds(FrameHeader header, std::span<const std::byte> payload, std::span<const int> fds);
  void flush();  // writes what is queued, as far as it goes

  // Any thread; what is queued is flushed as far as it goes without waiting; on_closed follows on the poller.
  void close(const std::string& reason);

  State state() const;
  std::size_t queued_bytes() const;
  const Hello& peer() const;                   // valid once open
  const PeerCredentials& credentials() const;  // SO_PEERCRED for Unix sockets, else empty

  struct Statistics {
    std::uint64_t frames_in = 0, frames_out = 0, bytes_in = 0, bytes_out = 0, writes = 0, reads = 0;
  };
  Statistics statistics() const;

  void on_ready(std::uint32_t events) override;
  void on_flush() override;

 private:
  struct Impl;
  explicit Connection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Listens on "unix:/path" (mode 0600 by the process's umask handling, stale socket file replaced only
// when nobody listens on it) or "tcp:host:port" (port 0: chosen, see address()).
class Listener final : public EventHandler, public std::enable_shared_from_this<Listener> {
 public:
  using OnAccept = std::function<void(UniqueFd, const PeerCredentials&)>;
  // Throws std::system_error that names the address.
  static std::shared_ptr<Listener> listen(Reactor& reactor, const std::string& address, OnAccept on_accept);
  ~Listener() override;
  const std::string& address() const;
  // Any thread; removes the socket file. A call of on_accept may still be under way on the poller.
  void close();
  void on_ready(std::uint32_t events) override;

 private:
  struct Impl;
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aktis::wire
