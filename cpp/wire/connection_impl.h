// The inside of a Connection, shared by connection.cc (life), connection_send.cc and connection_receive.cc.
//
// The polling thread alone reads, opens and closes; any thread sends, under the send lock. The delegate
// and the log are called without it.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cassert>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wire/connection.h"
#include "wire/output_queue.h"

namespace aktis::wire {

// kClosed may follow any state; these are the other transitions.
constexpr bool allowed(Connection::State from, Connection::State to) {
  switch (to) {
    case Connection::State::kConnecting:
      return false;
    case Connection::State::kHandshake:
      return from == Connection::State::kConnecting;
    case Connection::State::kOpen:
      return from == Connection::State::kHandshake;
    case Connection::State::kClosed:
      return from != Connection::State::kClosed;
  }
  return false;
}

std::vector<std::byte> encode_frame(FrameType type, std::span<const std::byte> payload);

inline iovec part_of(std::span<const std::byte> data) {
  return {const_cast<std::byte*>(data.data()), data.size()};
}

struct Connection::Impl {
  Impl(Reactor& the_reactor, std::shared_ptr<ConnectionDelegate> the_delegate,
       const ConnectionLimits& the_limits)
      : reactor(the_reactor), limits(the_limits), delegate(std::move(the_delegate)) {}

  // Constant after construction.
  Reactor& reactor;
  const ConnectionLimits limits;
  Connection* self = nullptr;
  std::string address;                    // client
  Endpoint endpoint;                      // client
  WorkerId expected_peer;                 // client
  std::optional<HandshakePolicy> policy;  // server
  TimePoint handshake_deadline;

  // Polling thread only.
  std::shared_ptr<ConnectionDelegate> delegate;
  FrameDecoder decoder{kMaxHandshakePayloadBytes};
  std::chrono::milliseconds connect_retry{1};  // doubled by every attempt
  std::vector<UniqueFd> received_fds;          // of the last read
  std::atomic<std::uint64_t> frames_in{0}, bytes_in{0}, reads{0};

  std::atomic<Reactor::TimerId> handshake_timer{0};

  // Written by the polling thread before kOpen is stored.
  Hello peer;
  PeerCredentials credentials;

  std::atomic<State> state{State::kConnecting};  // stored only under mutex

  mutable std::mutex mutex;  // the send lock; guards what follows
  UniqueFd fd;               // replaced only by the polling thread
  OutputQueue queue;
  bool started = false;       // our first frame of the handshake is on its way: others may follow
  bool blocked = false;       // the socket took less than was offered: EPOLLOUT is awaited
  bool write_failed = false;  // the peer is gone; what it had sent is still being read
  bool flush_asked = false;   // on_flush() will come
  std::string close_reason;   // of kClosed
  std::uint64_t frames_out = 0, bytes_out = 0, writes = 0;

  void set_state(State to) {
    assert(allowed(state.load(), to));
    state.store(to);
  }

  // Sending (connection lock held).
  SendResult send(const FrameHeader& header, std::span<const std::span<const std::byte>> segments,
                  Flush flush);
  SendResult send_with_fds(const FrameHeader& header, std::span<const std::byte> payload,
                           std::span<const int> fds);
  void append(std::span<const std::byte> header, std::span<const std::span<const std::byte>> segments);
  void append_rest(std::size_t written, std::span<const std::byte> header,
                   std::span<const std::span<const std::byte>> segments);
  void write_through(std::span<const std::byte> header, std::span<const std::span<const std::byte>> segments);
  void flush_queue();
  bool write_parts(std::span<const iovec> parts, std::size_t& written);
  void set_blocked(bool now_blocked);
  void on_write_failure();

  // Polling thread.
  void start_connecting();
  void on_connected();
  void read_available();
  ssize_t read_once(std::span<std::byte> room);
  void deliver_frames();
  void deliver_fds();
  void on_handshake_frame(const Frame& frame);
  void on_hello(const Frame& frame);
  void on_hello_ack(const Frame& frame);
  void on_wire_frame(const Frame& frame);
  void refuse(const Reject& reject);
  void open(const Hello& hello, std::span<const std::byte> ack);
  void fail(const std::string& reason);
  void finish_close();
  void arm_handshake_timer();
};

}  // namespace aktis::wire
