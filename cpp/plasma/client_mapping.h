// The arena as a client sees it: a read-only mapping for what is sealed, a writable one for what is not.
//
// A stray write through a view of a sealed object faults instead of corrupting it for every reader.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/reactor.h"
#include "wire/socket.h"

namespace aktis::plasma {

class ClientMapping {
 public:
  // Throws std::runtime_error unless the descriptor is a memfd of that size, sealed against shrinking
  // (else a foreign process could make every access fault).
  ClientMapping(wire::UniqueFd arena, std::uint64_t arena_bytes);
  ~ClientMapping();
  ClientMapping(const ClientMapping&) = delete;
  ClientMapping& operator=(const ClientMapping&) = delete;

  // Whether the store named a place that exists.
  bool holds(std::uint64_t offset, std::uint64_t size_bytes) const {
    return size_bytes <= size_ && offset <= size_ - size_bytes;
  }
  std::span<std::byte> writable(std::uint64_t offset, std::size_t size_bytes) const {
    return {writable_ + offset, size_bytes};
  }
  std::span<const std::byte> readable(std::uint64_t offset, std::size_t size_bytes) const {
    return {readable_ + offset, size_bytes};
  }

  // memcpy into the arena (or anywhere), by `threads` threads. Page-table entries of this process are
  // made in bulk first: four times cheaper than a fault per page.
  void copy(std::span<std::byte> to, std::span<const std::byte> from, unsigned threads) const;

  // The store may have given pages back: do not count on page-table entries any more.
  void forget_populated() const;

 private:
  void copy_part(std::span<std::byte> to, std::span<const std::byte> from) const;
  void populate(std::span<std::byte> range) const;

  std::uint64_t size_ = 0;
  std::byte* writable_ = nullptr;
  const std::byte* readable_ = nullptr;
  // One byte per granule of the arena whose page-table entries were made; itself demand-zero memory.
  std::atomic<std::uint8_t>* populated_ = nullptr;
  std::uint64_t granules_ = 0;
  mutable std::atomic<wire::Clock::rep> copied_at_{0};
};

}  // namespace aktis::plasma
