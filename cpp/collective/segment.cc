#include "collective/segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <iterator>
#include <system_error>

namespace aktis::collective {
namespace {

constexpr std::uint64_t kMagic = 0x616b746973636f31;  // changes with the layout
constexpr std::size_t kPageBytes = 4096;
// The kernel cannot wait for a word and for a lock at once, so a wait looks after the others so often.
constexpr std::chrono::milliseconds kLookInterval{100};

std::size_t page_up(std::size_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

struct Layout {
  std::size_t members, channels, buffers, slots, size_bytes;
  explicit Layout(std::size_t world) {
    members = kPageBytes;
    channels = members + page_up(world * sizeof(Member));
    buffers = channels + page_up(world * world * sizeof(Channel));
    slots = buffers + world * 2 * kChunkBytes;
    size_bytes = slots + world * world * kSlots * kSlotBytes;  // pages that nobody uses are never there
  }
};

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* timeout) {
  static_assert(sizeof(word) == sizeof(std::uint32_t) && std::atomic<std::uint32_t>::is_always_lock_free);
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

bool reached(std::uint32_t value, std::uint32_t target) {
  return static_cast<std::int32_t>(value - target) >= 0;
}

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Some 50 microseconds when every member can have a processor; else waiting keeps others from running.
std::uint32_t spins_for(std::uint32_t world_size) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  const bool known = ::sched_getaffinity(0, sizeof usable, &usable) == 0;
  return known && static_cast<std::uint32_t>(CPU_COUNT(&usable)) >= world_size ? 2000 : 20;
}

}  // namespace

std::string text_of(const Description& description) {
  constexpr const char* kNames[] = {"barrier",   "allreduce", "reduce",
                                    "broadcast", "allgather", "reducescatter"};
  // It may be another member's, who may be of another version.
  const bool known = static_cast<std::size_t>(description.call) < std::size(kNames) &&
                     static_cast<std::size_t>(description.type) < kDataTypes &&
                     static_cast<std::size_t>(description.operation) < kOperations;
  if (!known) return "a call that this version does not have";
  std::string text = kNames[static_cast<std::size_t>(description.call)];
  if (description.call == Call::kBarrier) return text;
  text += " of " + std::to_string(description.count) + " " + std::string(name_of(description.type));
  const bool reduces = description.call != Call::kBroadcast && description.call != Call::kAllGather;
  if (reduces) text += " by " + std::string(name_of(description.operation));
  if (description.call == Call::kBroadcast) text += " from rank " + std::to_string(description.root);
  if (description.call == Call::kReduce) text += " to rank " + std::to_string(description.root);
  return text;
}

void Bell::ring(std::uint32_t to) {
  // Sequentially consistent, as the waiter's increment and look: one of both sees the other.
  value.store(to);
  if (waiters.load() != 0) futex(value, FUTEX_WAKE, INT_MAX, nullptr);
}

struct Segment::Header {
  std::uint64_t magic;
  std::uint64_t world_size;
  std::atomic<std::uint32_t> broken;  // 0: no, 1: somebody writes the reason, 2: read it
  char reason[512];
};

int Segment::create(std::uint32_t world_size) {
  if (world_size == 0 || world_size > kMaxMembers) {
    throw std::invalid_argument("a group in shared memory has 1 to " + std::to_string(kMaxMembers) +
                                " members, got " + std::to_string(world_size));
  }
  const int descriptor = ::memfd_create("aktis-collective", MFD_CLOEXEC);
  if (descriptor < 0) fail("memfd_create of a collective group");
  const Header header{kMagic, world_size, 0, {}};
  const bool made = ::ftruncate(descriptor, static_cast<off_t>(Layout(world_size).size_bytes)) == 0 &&
                    ::pwrite(descriptor, &header, sizeof header, 0) == static_cast<ssize_t>(sizeof header);
  if (!made) {
    const int error = errno;
    ::close(descriptor);
    throw std::system_error(error, std::generic_category(), "the memory of a collective group");
  }
  return descriptor;
}

Segment::Segment(int descriptor, std::uint32_t rank, std::uint32_t world_size, Interrupt interrupt)
    : descriptor_(descriptor),
      rank_(rank),
      world_size_(world_size),
      interrupt_(std::move(interrupt)),
      spins_(spins_for(world_size)) {
  try {
    map();
    hold_lock();
  } catch (...) {
    if (base_ != nullptr) ::munmap(base_, Layout(world_size_).size_bytes);
    ::close(descriptor_);
    throw;
  }
}

void Segment::map() {
  const Layout layout(world_size_);
  struct stat status;
  if (::fstat(descriptor_, &status) != 0) fail("fstat of a collective group's memory");
  if (rank_ >= world_size_ || static_cast<std::size_t>(status.st_size) != layout.size_bytes) {
    throw std::invalid_argument("this is not the memory of a group of " + std::to_string(world_size_));
  }
  void* base =
      ::mmap(nullptr, layout.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, descriptor_, 0);
  if (base == MAP_FAILED) fail("mmap of a collective group's memory");
  base_ = static_cast<std::byte*>(base);
  if (header().magic != kMagic || header().world_size != world_size_) {
    throw std::invalid_argument("the memory of the group was made by another version of Aktis");
  }
}

void Segment::hold_lock() {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(rank_);
  lock.l_len = 1;
  if (::fcntl(descriptor_, F_SETLK, &lock) != 0) {
    throw std::invalid_argument("another process is rank " + std::to_string(rank_) + " of this group");
  }
  member(rank_).pid = ::getpid();
  member(rank_).joined.store(1);
}

Segment::~Segment() {
  member(rank_).left.store(1);
  // Wakes who waits for us, so that it looks at once.
  futex(member(rank_).progress.value, FUTEX_WAKE, INT_MAX, nullptr);
  ::munmap(base_, Layout(world_size_).size_bytes);
  ::close(descriptor_);
}

Segment::Header& Segment::header() const { return *reinterpret_cast<Header*>(base_); }

Member& Segment::member(std::uint32_t rank) const {
  return reinterpret_cast<Member*>(base_ + Layout(world_size_).members)[rank];
}

std::byte* Segment::buffer(std::uint32_t rank, std::uint32_t step) const {
  return base_ + Layout(world_size_).buffers + (std::size_t{rank} * 2 + (step & 1)) * kChunkBytes;
}

Channel& Segment::channel(std::uint32_t from, std::uint32_t to) const {
  return reinterpret_cast<Channel*>(base_ + Layout(world_size_).channels)[from * world_size_ + to];
}

std::byte* Segment::slot(std::uint32_t from, std::uint32_t to, std::uint32_t number) const {
  const std::size_t index = (std::size_t{from} * world_size_ + to) * kSlots + number % kSlots;
  return base_ + Layout(world_size_).slots + index * kSlotBytes;
}

void Segment::await(Bell& bell, std::uint32_t target, std::uint32_t rank, TimePoint deadline) {
  for (std::uint32_t i = 0; i < spins_; ++i) {
    if (reached(bell.value.load(std::memory_order_acquire), target)) return;
    pause_briefly();
  }
  bell.waiters.fetch_add(1);
  try {
    sleep(bell, target, rank, deadline);
  } catch (const GroupFailed&) {
    bell.waiters.fetch_sub(1);
    throw;
  } catch (...) {
    bell.waiters.fetch_sub(1);
    break_with("rank " + std::to_string(rank_) + " was interrupted while it waited for rank " +
               std::to_string(rank));
    throw;
  }
  bell.waiters.fetch_sub(1);
}

void Segment::sleep(Bell& bell, std::uint32_t target, std::uint32_t rank, TimePoint deadline) {
  for (;;) {
    const std::uint32_t seen = bell.value.load();
    if (reached(seen, target)) return;
    check_unbroken();
    const bool gone = is_gone(rank);
    if (reached(bell.value.load(), target)) return;  // its last act
    if (gone) {
      const bool left = member(rank).left.load() != 0;
      break_with("rank " + std::to_string(rank) + (left ? " has left the group" : "'s process has died"));
      check_unbroken();
    }
    const auto now = Clock::now();
    if (now >= deadline) {
      const std::string late = "rank " + std::to_string(rank_) + " waited in vain for rank " +
                               std::to_string(rank) + " until the group's timeout";
      break_with(late);
      throw GroupTimedOut(late);
    }
    const auto slice = std::min<Clock::duration>(deadline - now, kLookInterval);
    const auto slice_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(slice).count();
    const timespec timeout{slice_ns / 1'000'000'000, slice_ns % 1'000'000'000};
    futex(bell.value, FUTEX_WAIT, seen, &timeout);
    if (reached(bell.value.load(), target)) return;  // not by way of the GIL, which others may hold
    if (interrupt_) interrupt_();
  }
}

bool Segment::is_gone(std::uint32_t rank) const {
  const Member& other = member(rank);
  if (other.left.load() != 0) return true;
  // Before it has joined there is no lock to be seen; within a process there never is.
  if (other.joined.load() == 0 || other.pid == ::getpid()) return false;
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(rank);
  lock.l_len = 1;
  return ::fcntl(descriptor_, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

void Segment::check_unbroken() const {
  if (header().broken.load() == 2) {
    throw GroupFailed(std::string(header().reason, ::strnlen(header().reason, sizeof header().reason)));
  }
}

void Segment::break_with(const std::string& reason) {
  std::uint32_t unbroken = 0;
  if (!header().broken.compare_exchange_strong(unbroken, 1)) return;  // the first reason is the cause
  std::strncpy(header().reason, reason.c_str(), sizeof header().reason - 1);
  header().broken.store(2);
  for (std::uint32_t other = 0; other < world_size_; ++other) {
    futex(member(other).progress.value, FUTEX_WAKE, INT_MAX, nullptr);
  }
}

}  // namespace aktis::collective
