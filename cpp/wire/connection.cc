#include "wire/connection.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "wire/connection_impl.h"
#include "wire/log.h"

namespace aktis::wire {
namespace {

using State = Connection::State;

constexpr std::chrono::milliseconds kMaxConnectRetry{50};

}  // namespace

std::vector<std::byte> encode_frame(FrameType type, std::span<const std::byte> payload) {
  std::vector<std::byte> bytes(kHeaderBytes + payload.size());
  encode_header({static_cast<std::uint32_t>(payload.size()), static_cast<std::uint16_t>(type), 0, 0},
                bytes.data());
  std::copy(payload.begin(), payload.end(), bytes.begin() + kHeaderBytes);
  return bytes;
}

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

// ---- public ----

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
  impl->queue.append(encode_frame(FrameType::kHello, encode_hello(first)));
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
  const std::lock_guard lock(impl_->mutex);
  return impl_->send_with_fds(header, payload, fds);
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
