#include "wire/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "wire/log.h"
#include "wire/output_queue.h"

namespace aktis::wire {
namespace {

using State = Connection::State;

constexpr int kMaxReadsPerEvent = 8;    // then other connections get their turn
constexpr int kMaxWritesPerFlush = 64;  // the same for a peer that reads as fast as we write
constexpr int kMaxReadsAfterFailure = 1024;
constexpr std::size_t kMaxParts = 64;  // of one sendmsg
constexpr std::chrono::milliseconds kMinConnectRetry{1};
constexpr std::chrono::milliseconds kMaxConnectRetry{50};

// kClosed may follow any state; these are the other transitions.
constexpr bool allowed(State from, State to) {
  switch (to) {
    case State::kConnecting:
      return false;
    case State::kHandshake:
      return from == State::kConnecting;
    case State::kOpen:
      return from == State::kHandshake;
    case State::kClosed:
      return from != State::kClosed;
  }
  return false;
}

FrameHeader header_of(FrameType type, std::size_t payload_bytes = 0) {
  return {static_cast<std::uint32_t>(payload_bytes), static_cast<std::uint16_t>(type), 0, 0};
}

bool is(const Frame& frame, FrameType type) { return frame.header.type == static_cast<std::uint16_t>(type); }

std::vector<std::byte> encode_frame(FrameHeader header, std::span<const std::byte> payload) {
  header.payload_bytes = static_cast<std::uint32_t>(payload.size());
  std::vector<std::byte> bytes(kHeaderBytes + payload.size());
  encode_header(header, bytes.data());
  std::copy(payload.begin(), payload.end(), bytes.begin() + kHeaderBytes);
  return bytes;
}

iovec part_of(std::span<const std::byte> data) { return {const_cast<std::byte*>(data.data()), data.size()}; }

// The only writer is the polling thread: no read-modify-write is needed.
void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

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
  std::chrono::milliseconds connect_retry = kMinConnectRetry;
  std::vector<UniqueFd> received_fds;  // of the last read
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
  void append(std::span<const std::byte> header, std::span<const std::span<const std::byte>> segments);
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
  bool open(const Hello& hello, std::span<const std::byte> ack);
  void fail(const std::string& reason);
  void finish_close();
  void arm_handshake_timer();
};

// ---- sending -------------------------------------------------------------------------------------

SendResult Connection::Impl::send(const FrameHeader& header,
                                  std::span<const std::span<const std::byte>> segments, Flush flush) {
  const std::size_t frame_bytes = kHeaderBytes + header.payload_bytes;
  if (state.load() == State::kClosed || write_failed) return SendResult::kClosed;
  if (queue.size_bytes() + frame_bytes > limits.max_queued_bytes) return SendResult::kQueueFull;
  ++frames_out;
  std::byte raw_header[kHeaderBytes];
  encode_header(header, raw_header);
  const bool may_write = started && !blocked;
  const bool write_now = flush == Flush::kNow || queue.size_bytes() + frame_bytes >= kFlushBytes;
  if (may_write && write_now) {
    write_through(raw_header, segments);
    if (write_failed) return SendResult::kClosed;
    return queue.empty() ? SendResult::kSent : SendResult::kQueued;
  }
  append(raw_header, segments);
  if (may_write && !flush_asked) {
    flush_asked = true;
    reactor.flush_later(self->shared_from_this());
  }
  return SendResult::kQueued;
}

void Connection::Impl::append(std::span<const std::byte> header,
                              std::span<const std::span<const std::byte>> segments) {
  queue.append(header);
  for (const auto segment : segments) queue.append(segment);
}

// Writes what is queued and this frame in one call, without copying the frame; queues what did not fit.
void Connection::Impl::write_through(std::span<const std::byte> header,
                                     std::span<const std::span<const std::byte>> segments) {
  if (queue.chunks() + 1 + segments.size() > kMaxParts) {
    append(header, segments);
    flush_queue();
    return;
  }
  iovec parts[kMaxParts];
  std::size_t count = queue.gather(parts);
  parts[count++] = part_of(header);
  for (const auto segment : segments) {
    if (!segment.empty()) parts[count++] = part_of(segment);
  }
  std::size_t written = 0;
  const bool all = write_parts({parts, count}, written);
  if (write_failed) return;
  std::size_t skip = written - std::min(written, queue.size_bytes());
  queue.consume(written - skip);
  if (all) return;
  const auto append_rest = [&](std::span<const std::byte> data) {
    const std::size_t done = std::min(skip, data.size());
    skip -= done;
    queue.append(data.subspan(done));
  };
  append_rest(header);
  for (const auto segment : segments) append_rest(segment);
  set_blocked(true);
}

void Connection::Impl::flush_queue() {
  for (int i = 0; i < kMaxWritesPerFlush && !queue.empty() && !write_failed; ++i) {
    iovec parts[kMaxParts];
    std::size_t written = 0;
    const bool all = write_parts({parts, queue.gather(parts)}, written);
    if (write_failed) return;
    queue.consume(written);
    if (!all) break;
  }
  set_blocked(!queue.empty());
}

// One sendmsg. True when everything went.
bool Connection::Impl::write_parts(std::span<const iovec> parts, std::size_t& written) {
  std::size_t offered = 0;
  for (const iovec& part : parts) offered += part.iov_len;
  const ssize_t result = send_vector(fd.get(), parts);
  ++writes;
  if (result < 0) {
    if (result != -EAGAIN && result != -ENOBUFS) on_write_failure();
    return false;
  }
  written = static_cast<std::size_t>(result);
  bytes_out += written;
  return written == offered;
}

void Connection::Impl::set_blocked(bool now_blocked) {
  if (blocked == now_blocked || state.load() == State::kClosed) return;
  blocked = now_blocked;
  reactor.modify(fd.get(), blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

// The peer may have said why before it went (a refusal, a last reply): read to the end, then close.
void Connection::Impl::on_write_failure() {
  write_failed = true;
  queue.clear();
  reactor.post([connection = self->shared_from_this()] {
    Impl& impl = *connection->impl_;
    for (int i = 0; i < kMaxReadsAfterFailure && impl.state.load() != State::kClosed; ++i) {
      const std::uint64_t before = impl.bytes_in.load(std::memory_order_relaxed);
      impl.read_available();
      if (impl.bytes_in.load(std::memory_order_relaxed) == before) break;
    }
    impl.fail("closed by peer");
  });
}

// ---- connecting and closing (polling thread) -----------------------------------------------------

void Connection::Impl::arm_handshake_timer() {
  handshake_timer = reactor.call_after(limits.handshake_timeout, [weak = self->weak_from_this()] {
    const auto connection = weak.lock();
    if (!connection) return;
    Impl& impl = *connection->impl_;
    if (impl.state.load() == State::kOpen) return;
    impl.fail("the handshake took longer than " + std::to_string(impl.limits.handshake_timeout.count()) +
              " ms");
  });
}

void Connection::Impl::start_connecting() {
  ConnectStart start = start_connect(endpoint);
  std::unique_lock lock(mutex);
  if (state.load() == State::kClosed) return;
  if (start.error == EAGAIN) {
    lock.unlock();
    reactor.call_after(connect_retry, [weak = self->weak_from_this()] {
      if (const auto connection = weak.lock()) connection->impl_->start_connecting();
    });
    connect_retry = std::min(2 * connect_retry, kMaxConnectRetry);
    return;
  }
  if (start.error != 0 && start.error != EINPROGRESS) {
    lock.unlock();
    const std::string reason = "cannot connect to " + address + ": " + std::strerror(start.error);
    reactor.post([connection = self->shared_from_this(), reason] { connection->impl_->fail(reason); });
    return;
  }
  fd = std::move(start.fd);
  if (start.error == EINPROGRESS) {
    reactor.add(fd.get(), EPOLLIN | EPOLLOUT, self->shared_from_this());
    return;
  }
  reactor.add(fd.get(), EPOLLIN, self->shared_from_this());
  on_connected();
}

// Connection lock held.
void Connection::Impl::on_connected() {
  if (endpoint.is_unix) credentials = peer_credentials(fd.get());
  set_state(State::kHandshake);
  started = true;
  flush_queue();  // the HELLO, and what was sent since
}

void Connection::Impl::fail(const std::string& reason) {
  State before;
  {
    const std::lock_guard lock(mutex);
    before = state.load();
    if (before == State::kClosed) return;  // then finish_close() is posted, or ran
    set_state(State::kClosed);
    close_reason = reason;
  }
  if (policy && before == State::kHandshake) {
    const std::string who = credentials.known ? " of process " + std::to_string(credentials.pid) : "";
    log(LogLevel::kWarning, "wire", "a connection" + who + " ended before it was open: " + reason);
  }
  finish_close();
}

void Connection::Impl::finish_close() {
  reactor.cancel(handshake_timer);
  UniqueFd closing;
  std::string reason;
  {
    const std::lock_guard lock(mutex);
    closing = std::move(fd);
    queue.clear();
    reason = close_reason;
  }
  if (closing) reactor.remove(closing.get());
  const auto last = std::move(delegate);
  delegate.reset();
  if (last) last->on_closed(*self, reason);
}

// ---- receiving (polling thread) ------------------------------------------------------------------

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
  FrameHeader pong = header_of(FrameType::kPong);
  pong.correlation = frame.header.correlation;
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
  open(*hello, encode_frame(header_of(FrameType::kHelloAck), encode_hello(answer)));
}

void Connection::Impl::on_hello_ack(const Frame& frame) {
  const auto ack = decode_hello(frame.payload);
  if (!ack) return fail("malformed frame: HELLO_ACK");
  if (const auto reject = check_hello_ack(*ack, expected_peer))
    return fail("refused here: " + reject->message);
  open(*ack, {});
}

// False when the connection was closed meanwhile.
bool Connection::Impl::open(const Hello& hello, std::span<const std::byte> ack) {
  {
    const std::lock_guard lock(mutex);
    if (state.load() == State::kClosed) return false;
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
  return true;
}

void Connection::Impl::refuse(const Reject& reject) {
  {
    const std::lock_guard lock(mutex);
    if (state.load() == State::kClosed) return;
    queue.clear();
    queue.append(encode_frame(header_of(FrameType::kHelloReject), encode_reject(reject)));
    ++frames_out;
    flush_queue();
  }
  fail("refused: " + reject.message);
}

// ---- public ----------------------------------------------------------------------------------------

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) { impl_->self = this; }

// The reactor, which kept us alive, has let go: nothing is registered any more, or it is gone itself.
Connection::~Connection() = default;

std::shared_ptr<Connection> Connection::connect(Reactor& reactor, const std::string& address,
                                                const Hello& hello, const WorkerId& expected_peer,
                                                std::shared_ptr<ConnectionDelegate> delegate,
                                                const ConnectionLimits& limits) {
  auto impl = std::make_unique<Impl>(reactor, std::move(delegate), limits);
  impl->address = address;
  impl->endpoint = parse_endpoint(address);
  impl->expected_peer = expected_peer;
  Hello first = hello;
  first.expected_peer = expected_peer;
  impl->queue.append(encode_frame(header_of(FrameType::kHello), encode_hello(first)));
  impl->frames_out = 1;
  std::shared_ptr<Connection> connection(new Connection(std::move(impl)));
  connection->impl_->arm_handshake_timer();
  connection->impl_->start_connecting();
  return connection;
}

std::shared_ptr<Connection> Connection::accept(Reactor& reactor, UniqueFd fd, const HandshakePolicy& policy,
                                               std::shared_ptr<ConnectionDelegate> delegate,
                                               const ConnectionLimits& limits) {
  auto impl = std::make_unique<Impl>(reactor, std::move(delegate), limits);
  impl->policy = policy;
  impl->credentials = peer_credentials(fd.get());
  impl->state.store(State::kHandshake);
  impl->fd = std::move(fd);
  const int raw_fd = impl->fd.get();
  std::shared_ptr<Connection> connection(new Connection(std::move(impl)));
  connection->impl_->arm_handshake_timer();
  reactor.add(raw_fd, EPOLLIN, connection);
  return connection;
}

SendResult Connection::send(FrameHeader header, std::span<const std::span<const std::byte>> segments,
                            Flush flush) {
  std::size_t payload_bytes = 0;
  for (const auto segment : segments) payload_bytes += segment.size();
  if (payload_bytes > impl_->limits.max_payload_bytes) {
    throw std::length_error("a frame of type " + std::to_string(header.type) + " with " +
                            std::to_string(payload_bytes) + " payload bytes is too large, the limit is " +
                            std::to_string(impl_->limits.max_payload_bytes));
  }
  header.payload_bytes = static_cast<std::uint32_t>(payload_bytes);
  const std::lock_guard lock(impl_->mutex);
  return impl_->send(header, segments, flush);
}

SendResult Connection::send(FrameHeader header, std::span<const std::byte> payload, Flush flush) {
  return send(header, std::span<const std::span<const std::byte>>(&payload, 1), flush);
}

SendResult Connection::send_with_fds(FrameHeader header, std::span<const std::byte> payload,
                                     std::span<const int> fds) {
  header.payload_bytes = static_cast<std::uint32_t>(payload.size());
  std::byte raw_header[kHeaderBytes];
  encode_header(header, raw_header);
  const std::lock_guard lock(impl_->mutex);
  Impl& impl = *impl_;
  if (impl.state.load() == State::kClosed || impl.write_failed) return SendResult::kClosed;
  if (!impl.started || impl.blocked || !impl.queue.empty()) return SendResult::kQueueFull;
  const iovec parts[] = {part_of(raw_header), part_of(payload)};
  const ssize_t result = send_vector(impl.fd.get(), parts, fds);
  ++impl.writes;
  if (result == -EAGAIN) return SendResult::kQueueFull;
  if (result < 0) {
    impl.on_write_failure();
    return SendResult::kClosed;
  }
  // The descriptors went with the first byte; the rest follows like any other.
  ++impl.frames_out;
  const auto written = static_cast<std::size_t>(result);
  impl.bytes_out += written;
  if (written == kHeaderBytes + payload.size()) return SendResult::kSent;
  impl.queue.append(std::span<const std::byte>(raw_header).subspan(std::min(written, kHeaderBytes)));
  impl.queue.append(payload.subspan(written - std::min(written, kHeaderBytes)));
  impl.set_blocked(true);
  return SendResult::kQueued;
}

void Connection::flush() {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->started && !impl_->blocked && impl_->state.load() != State::kClosed) impl_->flush_queue();
}

void Connection::on_flush() {
  const std::lock_guard lock(impl_->mutex);
  impl_->flush_asked = false;
  if (!impl_->blocked && impl_->state.load() != State::kClosed) impl_->flush_queue();
}

void Connection::close(const std::string& reason) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->state.load() == State::kClosed) return;
    if (impl_->started && !impl_->write_failed) impl_->flush_queue();
    impl_->set_state(State::kClosed);
    impl_->close_reason = "closed here: " + reason;
  }
  impl_->reactor.post([self = shared_from_this()] { self->impl_->finish_close(); });
}

Connection::State Connection::state() const { return impl_->state.load(); }

std::size_t Connection::queued_bytes() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->queue.size_bytes();
}

const Hello& Connection::peer() const { return impl_->peer; }

const PeerCredentials& Connection::credentials() const { return impl_->credentials; }

Connection::Statistics Connection::statistics() const {
  Statistics result;
  result.frames_in = impl_->frames_in.load(std::memory_order_relaxed);
  result.bytes_in = impl_->bytes_in.load(std::memory_order_relaxed);
  result.reads = impl_->reads.load(std::memory_order_relaxed);
  const std::lock_guard lock(impl_->mutex);
  result.frames_out = impl_->frames_out;
  result.bytes_out = impl_->bytes_out;
  result.writes = impl_->writes;
  return result;
}

void Connection::on_ready(std::uint32_t events) {
  Impl& impl = *impl_;
  int error = 0;
  {
    const std::lock_guard lock(impl.mutex);
    if (impl.state.load() == State::kClosed) return;
    if (impl.state.load() == State::kConnecting) {
      error = socket_error(impl.fd.get());
      impl.blocked = true;  // EPOLLOUT is being watched: flushing ends that, or keeps it
      if (error == 0) impl.on_connected();
    } else if (events & EPOLLOUT) {
      impl.flush_queue();
    }
  }
  if (error != 0) return impl.fail("cannot connect to " + impl.address + ": " + std::strerror(error));
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) impl.read_available();
}

}  // namespace aktis::wire
