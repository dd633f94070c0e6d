#include "wire/output_queue.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace aktis::wire {
namespace {

constexpr std::size_t kChunkBytes = 64u << 10;

}  // namespace

OutputQueue::Chunk& OutputQueue::writable_chunk(std::size_t wanted_bytes) {
  if (!chunks_.empty() && chunks_.back().end < chunks_.back().capacity) return chunks_.back();
  if (spare_.data != nullptr && wanted_bytes <= spare_.capacity) {
    chunks_.push_back(std::move(spare_));
    spare_ = {};
  } else {
    const std::size_t capacity = std::max(kChunkBytes, wanted_bytes);
    chunks_.push_back({std::make_unique_for_overwrite<std::byte[]>(capacity), capacity, 0, 0});
  }
  return chunks_.back();
}

void OutputQueue::append(std::span<const std::byte> data) {
  size_bytes_ += data.size();
  while (!data.empty()) {
    Chunk& chunk = writable_chunk(data.size());
    const std::size_t part = std::min(data.size(), chunk.capacity - chunk.end);
    std::memcpy(chunk.data.get() + chunk.end, data.data(), part);
    chunk.end += part;
    data = data.subspan(part);
  }
}

void OutputQueue::prepend(std::span<const std::byte> data) {
  Chunk chunk{std::make_unique_for_overwrite<std::byte[]>(data.size()), data.size(), 0, data.size()};
  std::memcpy(chunk.data.get(), data.data(), data.size());
  chunks_.push_front(std::move(chunk));
  size_bytes_ += data.size();
}

std::size_t OutputQueue::gather(std::span<iovec> out) const {
  const std::size_t count = std::min(out.size(), chunks_.size());
  for (std::size_t i = 0; i < count; ++i) {
    const Chunk& chunk = chunks_[i];
    out[i] = {chunk.data.get() + chunk.begin, chunk.end - chunk.begin};
  }
  return count;
}

void OutputQueue::consume(std::size_t bytes) {
  assert(bytes <= size_bytes_);
  size_bytes_ -= bytes;
  while (bytes > 0) {
    Chunk& chunk = chunks_.front();
    const std::size_t part = std::min(bytes, chunk.end - chunk.begin);
    chunk.begin += part;
    bytes -= part;
    if (chunk.begin == chunk.end) drop_front();
  }
}

void OutputQueue::drop_front() {
  if (chunks_.front().capacity == kChunkBytes) {
    spare_ = std::move(chunks_.front());
    spare_.begin = spare_.end = 0;
  }
  chunks_.pop_front();
}

void OutputQueue::clear() {
  chunks_.clear();
  spare_ = {};
  size_bytes_ = 0;
}

}  // namespace aktis::wire
