// The sending half of a Connection. Everything here runs under its send lock.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

#include "wire/connection_impl.h"

namespace aktis::wire {
namespace {

constexpr int kMaxWritesPerFlush = 64;  // then other connections get their turn, however fast the peer reads
constexpr int kMaxReadsAfterFailure = 1024;
constexpr std::size_t kMaxParts = 64;  // of one sendmsg

}  // namespace

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
  const std::size_t of_queue = std::min(written, queue.size_bytes());
  queue.consume(of_queue);
  if (!all) append_rest(written - of_queue, header, segments);
}

// Queues what is left of a frame of which `written` bytes went, and waits until the socket takes more.
void Connection::Impl::append_rest(std::size_t written, std::span<const std::byte> header,
                                   std::span<const std::span<const std::byte>> segments) {
  const auto append_part = [&](std::span<const std::byte> data) {
    const std::size_t done = std::min(written, data.size());
    written -= done;
    queue.append(data.subspan(done));
  };
  append_part(header);
  for (const auto segment : segments) append_part(segment);
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

SendResult Connection::Impl::send_with_fds(const FrameHeader& header, std::span<const std::byte> payload,
                                           std::span<const int> fds) {
  if (state.load() == State::kClosed || write_failed) return SendResult::kClosed;
  if (!started || blocked || !queue.empty()) return SendResult::kQueueFull;
  std::byte raw_header[kHeaderBytes];
  encode_header(header, raw_header);
  const iovec parts[] = {part_of(raw_header), part_of(payload)};
  const ssize_t result = send_vector(fd.get(), parts, fds);
  ++writes;
  if (result == -EAGAIN || result == -ENOBUFS) return SendResult::kQueueFull;
  if (result < 0) {
    on_write_failure();
    return SendResult::kClosed;
  }
  // The descriptors went with the first byte; the rest follows like any other.
  ++frames_out;
  const auto written = static_cast<std::size_t>(result);
  bytes_out += written;
  if (written == kHeaderBytes + payload.size()) return SendResult::kSent;
  append_rest(written, raw_header, {&payload, 1});
  return SendResult::kQueued;
}

}  // namespace aktis::wire
