// The receiving half of a Connection, and the handshake. Everything here runs on the polling thread.
#include <cerrno>
#include <cstring>
#include <utility>

#include "wire/connection_impl.h"

namespace aktis::wire {
namespace {

constexpr int kMaxReadsPerEvent = 8;  // then other connections get their turn

bool is(const Frame& frame, FrameType type) { return frame.header.type == static_cast<std::uint16_t>(type); }

// The only writer is the polling thread: no read-modify-write is needed.
void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

ssize_t Connection::Impl::read_once(std::span<std::byte> room) {
  if (limits.max_received_fds == 0) return receive(fd.get(), room);
  bool truncated = false;
  const ssize_t received = receive_with_fds(fd.get(), room, limits.max_received_fds, received_fds, truncated);
  if (truncated) {
    fail("malformed frame: more than " + std::to_string(limits.max_received_fds) +
         " descriptors in one message");
  }
  return received;
}

void Connection::Impl::read_available() {
  for (int i = 0; i < kMaxReadsPerEvent && state.load() != State::kClosed; ++i) {
    const std::span<std::byte> room = decoder.prepare();
    const ssize_t received = read_once(room);
    bump(reads);
    if (state.load() == State::kClosed || received == -EAGAIN) return;
    if (received == 0) {
      return fail(decoder.buffered_bytes() == 0 ? "closed by peer"
                                                : "closed by peer in the middle of a frame");
    }
    if (received < 0) {
      const int error = static_cast<int>(-received);
      return fail(error == ECONNRESET ? "closed by peer"
                                      : std::string("receiving failed: ") + std::strerror(error));
    }
    const auto count = static_cast<std::size_t>(received);
    bump(bytes_in, count);
    decoder.commit(count);
    deliver_frames();
    if (count < room.size()) return;
  }
}

void Connection::Impl::deliver_fds() {
  if (received_fds.empty() || state.load() != State::kOpen) return;
  delegate->on_fds(*self, std::exchange(received_fds, {}));
}

// One read may hold the end of the handshake, descriptors and frames.
void Connection::Impl::deliver_frames() {
  Frame frame;
  while (state.load() != State::kClosed) {
    deliver_fds();
    const FrameDecoder::Result result = decoder.next(frame);
    if (result == FrameDecoder::Result::kNeedMore) {
      if (!received_fds.empty()) fail("malformed frame: descriptors before the handshake");
      return;
    }
    if (result == FrameDecoder::Result::kError) {
      const std::string reason = "malformed frame: " + decoder.error();
      if (policy && state.load() != State::kOpen) return refuse({RejectCode::kMalformed, reason});
      return fail(reason);
    }
    bump(frames_in);
    if (state.load() != State::kOpen) {
      on_handshake_frame(frame);
    } else if (frame.header.type < static_cast<std::uint16_t>(FrameType::kControl)) {
      on_wire_frame(frame);
    } else {
      delegate->on_frame(*self, frame);
    }
  }
}

void Connection::Impl::on_wire_frame(const Frame& frame) {
  if (is(frame, FrameType::kPong)) return delegate->on_frame(*self, frame);
  if (!is(frame, FrameType::kPing)) {
    return fail("malformed frame: type " + std::to_string(frame.header.type) + " after the handshake");
  }
  const FrameHeader pong{0, static_cast<std::uint16_t>(FrameType::kPong), 0, frame.header.correlation};
  if (self->send(pong, std::span<const std::byte>{}) == SendResult::kQueueFull)
    fail("peer sends pings and does not read the answers");
}

void Connection::Impl::on_handshake_frame(const Frame& frame) {
  if (policy) {
    if (is(frame, FrameType::kHello)) return on_hello(frame);
    return refuse({RejectCode::kMalformed, "the first frame must be a HELLO, this one has type " +
                                               std::to_string(frame.header.type)});
  }
  if (is(frame, FrameType::kHelloAck)) return on_hello_ack(frame);
  if (!is(frame, FrameType::kHelloReject)) {
    return fail("malformed frame: type " + std::to_string(frame.header.type) +
                " instead of an answer to the HELLO");
  }
  const auto reject = decode_reject(frame.payload);
  fail("refused: " + (reject ? reject->message : "with a malformed reason"));
}

void Connection::Impl::on_hello(const Frame& frame) {
  const auto hello = decode_hello(frame.payload);
  if (!hello) return refuse({RejectCode::kMalformed, "malformed HELLO"});
  if (const auto reject = check_credentials(credentials, *policy)) return refuse(*reject);
  if (const auto reject = check_hello(*hello, *policy)) return refuse(*reject);
  Hello answer = policy->self;
  answer.token.clear();
  open(*hello, encode_frame(FrameType::kHelloAck, encode_hello(answer)));
}

void Connection::Impl::on_hello_ack(const Frame& frame) {
  const auto ack = decode_hello(frame.payload);
  if (!ack) return fail("malformed frame: HELLO_ACK");
  if (const auto reject = check_hello_ack(*ack, expected_peer))
    return fail("refused here: " + reject->message);
  open(*ack, {});
}

// `ack` is the server's; it goes before everything that was sent meanwhile.
void Connection::Impl::open(const Hello& hello, std::span<const std::byte> ack) {
  {
    const std::lock_guard lock(mutex);
    if (state.load() == State::kClosed) return;
    peer = hello;
    peer.token.clear();
    if (!ack.empty()) {
      queue.prepend(ack);
      ++frames_out;
      started = true;
      flush_queue();
    }
    set_state(State::kOpen);
  }
  reactor.cancel(handshake_timer);
  decoder.set_max_payload_bytes(limits.max_payload_bytes);
  delegate->on_open(*self, peer);
}

void Connection::Impl::refuse(const Reject& reject) {
  {
    const std::lock_guard lock(mutex);
    if (state.load() == State::kClosed) return;
    queue.clear();
    queue.append(encode_frame(FrameType::kHelloReject, encode_reject(reject)));
    ++frames_out;
    flush_queue();
  }
  fail("refused: " + reject.message);
}

}  // namespace aktis::wire
