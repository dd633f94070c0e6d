// What the store knows about one connected client: everything that must be undone when it goes away.
//
// Slabs and pins change only through the methods here, so that a client's bytes always add up. Belongs to
// the store's thread.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "plasma/admission.h"
#include "plasma/allocator.h"
#include "plasma/catalog.h"
#include "plasma/protocol.h"

namespace aktis::plasma {

// A range leased to a client, which cuts objects from it without asking. What has not been sealed yet
// is kept as pieces; sealed objects leave them with ranges of their own, and may be deleted and their
// range leased again while the slab is still open: so a slab has an id of its own.
struct Slab {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

struct Piece {
  Block* block = nullptr;
  std::uint64_t slab = 0;
};

struct SlabPolicy {
  std::uint64_t min_bytes = 256u << 10;
  std::uint64_t max_bytes = 16u << 20;
  std::size_t max_slabs = 64;  // per client, counting those that wait for their last seal
  wire::Clock::duration hot{
      std::chrono::milliseconds(250)};                  // asked again sooner: the next is twice as large
  wire::Clock::duration cold{std::chrono::seconds(2)};  // later: half as large
};

struct Session {
  struct Pin {
    Object* object = nullptr;
    std::uint32_t count = 0;
  };

  SessionId id = 0;
  std::uint32_t pid = 0;
  std::unordered_map<std::uint64_t, Pin> pins;           // by offset
  std::unordered_map<std::uint64_t, Object*> creations;  // by offset
  std::unordered_map<std::uint64_t, Slab> slabs;         // by id
  std::map<std::uint64_t, Piece> pieces;                 // of all slabs, by offset
  std::unordered_set<ObjectId, IdHash> waits;
  std::vector<ObjectReply> answers;  // not handed to the outbox yet
  std::uint64_t pinned_bytes = 0;
  std::uint64_t creating_bytes = 0;
  std::uint64_t slab_bytes = 0;        // leased and not sealed
  std::uint64_t slab_lease_bytes = 0;  // size of the next slab; 0 before the first
  wire::TimePoint slab_leased_at{};
  wire::TimePoint active_at{};  // last creation, lease or seal
  bool reclaim_asked = false;   // since it was last active

  void add_slab(std::uint64_t slab, Block* block);
  // Takes [offset, offset + length) out of the pieces; null when it is not wholly within one.
  Block* carve(Allocator& allocator, std::uint64_t offset, std::uint64_t length);
  // Takes out what is unsealed of a slab from `used_bytes` on.
  std::vector<Block*> cut_off(Allocator& allocator, std::uint64_t slab, std::uint64_t used_bytes);

  // How large the next slab should be for a client that asks now.
  std::uint64_t next_lease_bytes(std::uint64_t min_bytes, const SlabPolicy& policy, wire::TimePoint now);
};

}  // namespace aktis::plasma
