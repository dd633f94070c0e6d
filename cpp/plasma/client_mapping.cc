#include "plasma/client_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "plasma/stream_copy.h"

namespace aktis::plasma {
namespace {

constexpr std::size_t kGranuleBytes = 64u << 10;
constexpr std::size_t kPartBytes = 2u << 20;  // what one copying thread takes at a time
constexpr auto kPopulatedLifetime = std::chrono::seconds(5);

static_assert(sizeof(std::atomic<std::uint8_t>) == 1);

void* map(std::uint64_t length, int protection, int flags, int fd) {
  void* data = ::mmap(nullptr, length, protection, flags | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) {
    throw std::runtime_error("object store: cannot map " + std::to_string(length) +
                             " bytes: " + std::strerror(errno) + " (is the address space limited?)");
  }
  return data;
}

}  // namespace

ClientMapping::ClientMapping(wire::UniqueFd arena, std::uint64_t arena_bytes) : size_(arena_bytes) {
  struct stat status{};
  const int seals = ::fcntl(arena.get(), F_GET_SEALS);
  if (::fstat(arena.get(), &status) != 0 || seals < 0 || (seals & F_SEAL_SHRINK) == 0 || arena_bytes == 0 ||
      static_cast<std::uint64_t>(status.st_size) != arena_bytes) {
    throw std::runtime_error("object store: what it handed over is not a sealed arena of " +
                             std::to_string(arena_bytes) + " bytes");
  }
  granules_ = arena_bytes / kGranuleBytes + 1;
  populated_ = static_cast<std::atomic<std::uint8_t>*>(
      map(granules_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));
  writable_ = static_cast<std::byte*>(map(size_, PROT_READ | PROT_WRITE, MAP_SHARED, arena.get()));
  readable_ = static_cast<const std::byte*>(map(size_, PROT_READ, MAP_SHARED, arena.get()));
  ::madvise(writable_, size_, MADV_DONTDUMP);
  ::madvise(const_cast<std::byte*>(readable_), size_, MADV_DONTDUMP);
}

ClientMapping::~ClientMapping() {
  ::munmap(writable_, size_);
  ::munmap(const_cast<std::byte*>(readable_), size_);
  ::munmap(populated_, granules_);
}

void ClientMapping::copy(std::span<std::byte> to, std::span<const std::byte> from, unsigned threads) const {
  const auto now = wire::Clock::now().time_since_epoch();
  if (now - wire::Clock::duration(copied_at_.exchange(now.count())) > kPopulatedLifetime) forget_populated();
  if (threads <= 1 || to.size() <= kPartBytes) return copy_part(to, from);
  // Parts are taken one after the other, so that a thread which the machine holds up does not hold up all.
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (std::size_t begin; (begin = next.fetch_add(kPartBytes, std::memory_order_relaxed)) < to.size();) {
      const std::size_t length = std::min(kPartBytes, to.size() - begin);
      copy_part(to.subspan(begin, length), from.subspan(begin, length));
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (unsigned i = 1; i < threads; ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // No more threads to be had: those that run, and this one, do it.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

void ClientMapping::copy_part(std::span<std::byte> to, std::span<const std::byte> from) const {
  // Only into the arena; below a granule the faults cost less than finding out.
  const bool into_arena = to.data() >= writable_ && to.data() < writable_ + size_;
  if (into_arena && to.size() >= kGranuleBytes) populate(to);
  stream_copy(to, from);
}

void ClientMapping::populate(std::span<std::byte> range) const {
  const auto begin = static_cast<std::uint64_t>(range.data() - writable_);
  const std::uint64_t first = begin / kGranuleBytes;
  const std::uint64_t last = (begin + range.size() - 1) / kGranuleBytes;
  for (std::uint64_t granule = first; granule <= last; ++granule) {
    if (populated_[granule].exchange(1, std::memory_order_relaxed) != 0) continue;
    std::uint64_t end = granule + 1;
    while (end <= last && populated_[end].exchange(1, std::memory_order_relaxed) == 0) ++end;
    const std::uint64_t offset = granule * kGranuleBytes;
    // Advice: should it fail, the copy takes the faults itself.
    ::madvise(writable_ + offset, std::min(end * kGranuleBytes, size_) - offset, MADV_POPULATE_WRITE);
    granule = end;
  }
}

void ClientMapping::forget_populated() const { ::madvise(populated_, granules_, MADV_DONTNEED); }

}  // namespace aktis::plasma
