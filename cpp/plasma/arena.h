// The memory of a node's objects: a memfd that every client maps.
//
// Sealed against resizing, so that no holder of the descriptor can make the others fault. Page faults, not
// memcpy, make a first write slow; populate() takes them ahead of demand, discard() gives pages back.
// Thread-safe: nothing changes after construction but the pages themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/socket.h"

namespace aktis::plasma {

enum class HugePages {
  kNone,
  kAdvise,   // madvise(MADV_HUGEPAGE): used where the kernel allows it for shared memory
  kHugetlb,  // from the machine's reserved pool; the constructor throws when it is too small
};

class Arena {
 public:
  // Throws std::system_error that says which call failed.
  Arena(std::uint64_t size_bytes, HugePages huge_pages);
  // Takes over the arena of a store that ran before; throws when it is not a sealed memfd.
  explicit Arena(wire::UniqueFd inherited);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  int fd() const { return fd_.get(); }
  std::uint64_t size_bytes() const { return size_; }
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(data_), size_}; }

  // Backs the pages of the range with memory without changing what they hold; safe while clients write
  // there. False when the machine has no memory for them. Takes about 0.7 ms per cold MiB.
  bool populate(std::uint64_t offset, std::uint64_t length) const;

  // Gives back the pages that lie wholly inside the range; they read as zeros afterwards. Returns the bytes.
  std::uint64_t discard(std::uint64_t offset, std::uint64_t length) const;

  // Memory that the arena takes now, in all processes together.
  std::uint64_t resident_bytes() const;

 private:
  void map();

  wire::UniqueFd fd_;
  std::uint64_t size_ = 0;
  void* data_ = nullptr;
  std::uint64_t page_bytes_ = 4096;
};

}  // namespace aktis::plasma
