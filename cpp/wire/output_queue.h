// Bytes that wait to be written to one socket. Not thread-safe: guarded by the connection's send lock.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <deque>
#include <memory>
#include <span>

namespace aktis::wire {

class OutputQueue {
 public:
  void append(std::span<const std::byte> data);   // copies
  void prepend(std::span<const std::byte> data);  // before everything; nothing may be consumed in part
  // Describes the front of the queue in at most out.size() parts; returns how many.
  std::size_t gather(std::span<iovec> out) const;
  void consume(std::size_t bytes);  // were written
  void clear();

  std::size_t size_bytes() const { return size_bytes_; }
  std::size_t chunks() const { return chunks_.size(); }
  bool empty() const { return size_bytes_ == 0; }

 private:
  struct Chunk {
    std::unique_ptr<std::byte[]> data;
    std::size_t capacity = 0;
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  Chunk& writable_chunk(std::size_t wanted_bytes);
  void drop_front();

  std::deque<Chunk> chunks_;
  Chunk spare_;  // saves an allocation per burst
  std::size_t size_bytes_ = 0;
};

}  // namespace aktis::wire
