// The death of a process, seen from each of the roles that it had for this one.
#include "core/references.h"

namespace aktis {

namespace {

// Long enough to outlast every frame and every reference to the dead that is still under way.
constexpr std::size_t kRememberedLost = 4096;

}  // namespace

void ReferenceTable::on_process_lost(const WorkerId& worker) {
  if (worker == self_) return;
  remember_lost(worker);
  const auto node = peers_.extract(worker);
  if (node.empty()) return;
  const references::Peer& peer = node.mapped();
  lose_owner(peer.borrowed);
  for (const ScopeId scope : peer.scopes) lose_guard(scope);
  for (const std::uint64_t hold : peer.holds) drop_hold(hold);
  for (const ObjectId& id : peer.lent) {
    entries_.at(id).rare->borrowers.erase(worker);
    dirty_objects_.push_back(id);
  }
  settle();
}

// All change their state before any cover is voided: what an object of the dead owner covers may be its own
// too, and nothing must be sent to it.
void ReferenceTable::lose_owner(const std::unordered_set<ObjectId, IdHash>& borrowed) {
  for (const ObjectId& id : borrowed) {
    Entry& entry = entries_.at(id);
    set_state(id, entry, State::kOwnerDied);
    if (entry.held()) emit(ReferenceAction::Kind::kObjectOwnerDied, id, entry.rare->owner);
  }
  for (const ObjectId& id : borrowed) {
    Entry& entry = entries_.at(id);
    detach_all(id, entry);
    void_cover(id, entry);
  }
}

void ReferenceTable::lose_guard(ScopeId id) {
  Scope& scope = scopes_.at(id);
  register_dependents(scope);
  if (scope.kind == Scope::Kind::kReturn) {
    dissolve_scope(id);  // there is nobody to send RETURN_RELEASE to
  } else {
    scope.broken = true;  // the task still runs and will be ended
  }
}

void ReferenceTable::remember_lost(const WorkerId& worker) {
  if (!lost_.insert(worker).second) return;
  lost_order_.push_back(worker);
  if (lost_order_.size() > kRememberedLost) {
    lost_.erase(lost_order_.front());
    lost_order_.pop_front();
  }
}

}  // namespace aktis
