// The invariants of the store's books, as code. Tests call it after every step.
#include "plasma/engine.h"

namespace aktis::plasma {

const char* Engine::validate() const {
  if (const char* problem = allocator_.validate(); *problem != 0) return problem;
  if (const char* problem = catalog_.validate(); *problem != 0) return problem;
  std::uint64_t slab_bytes = 0, waits = 0, listed_waits = 0;
  for (const auto& [id, session] : sessions_) {
    std::uint64_t pinned = 0, creating = 0, leased = 0;
    for (const auto& [offset, held] : session->pins) {
      if (held.count == 0 || held.object->block->offset != offset) return "broken pin";
      pinned += held.object->block->size;
    }
    for (const auto& [offset, object] : session->creations) creating += object->block->size;
    for (const auto& [offset, piece] : session->pieces) {
      if (piece.block->is_free || !session->slabs.contains(piece.slab)) return "broken piece of a slab";
      leased += piece.block->size;
    }
    if (pinned != session->pinned_bytes || creating != session->creating_bytes)
      return "wrong bytes of a session";
    if (leased != session->slab_bytes) return "wrong slab bytes of a session";
    slab_bytes += leased;
    waits += session->waits.size();
  }
  for (const auto& [id, list] : waiters_) listed_waits += list.size();
  if (waits != listed_waits) return "waiting sessions and waited ids differ";
  const auto& totals = catalog_.totals();
  if (slab_bytes != counters_.slab_bytes) return "wrong slab bytes";
  const std::uint64_t known = totals.created_bytes + totals.sealed_bytes + totals.deleted_bytes + slab_bytes;
  if (known != allocator_.used_bytes()) return "memory that belongs to nobody";
  return "";
}

}  // namespace aktis::plasma
