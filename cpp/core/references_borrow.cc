// What a borrower does: take references in, register them with their owners, let them go.
#include "core/references.h"

namespace aktis {

void ReferenceTable::add_borrowed(const ObjectId& id, const WorkerId& owner, const Cover& cover) {
  Entry& entry = borrowed_entry(id, owner);
  increment(&Entry::local, id, entry);
  apply(cover, id, entry);
  settle();
}

// The entry of a reference that has just arrived. A new one is kCovered; the caller names the cover next.
references::Entry& ReferenceTable::borrowed_entry(const ObjectId& id, const WorkerId& owner) {
  auto [position, inserted] = insert(id);
  Entry& entry = position->second;
  if (!inserted) {
    // Our own object comes back although we have freed it: whoever kept it for the sender has died.
    if (entry.state == State::kFreed) emit(ReferenceAction::Kind::kObjectLost, id, self_);
    if (entry.state == State::kLost && entry.rare->owner == owner && owner != self_ && !is_lost(owner)) {
      // Its owner may have computed it again since it refused us; whoever sent it now vouches for it.
      set_state(id, entry, State::kCovered);
      peers_[owner].borrowed.insert(id);
    }
    return entry;
  }
  rare(entry).owner = owner;
  if (owner == self_) {
    entry.state = State::kLost;
    emit(ReferenceAction::Kind::kObjectLost, id, self_);
  } else if (is_lost(owner)) {
    entry.state = State::kOwnerDied;
    emit(ReferenceAction::Kind::kObjectOwnerDied, id, owner);
  } else {
    entry.state = State::kCovered;
    peers_[owner].borrowed.insert(id);
  }
  return entry;
}

void ReferenceTable::apply(const Cover& cover, const ObjectId& id, Entry& entry) {
  // A registered reference needs no cover; one under registration does, since the ADD alone keeps nothing.
  if (entry.state != State::kCovered && entry.state != State::kAdding) return;
  bool covered = false;
  if (cover.kind == Cover::Kind::kTask) {
    attach(id, entry, task_scope(cover.task, cover.caller));
    covered = true;
  } else if (cover.kind == Cover::Kind::kObject) {
    covered = cover_by_object(id, entry, cover.outer);
  }
  if (!covered && entry.state == State::kCovered && entry.rare->covers.empty()) start_registration(id, entry);
}

// False when the outer object can not vouch for anything: unknown, dead, or our own (which counts by itself).
bool ReferenceTable::cover_by_object(const ObjectId& id, Entry& entry, const ObjectId& outer) {
  const auto position = entries_.find(outer);
  if (outer == id || position == entries_.end()) return false;
  Entry& container = position->second;
  if (container.owned() || container.state == State::kOwnerDied || container.state == State::kLost)
    return false;
  attach(id, entry, object_scope(outer, container));
  if (entry.state == State::kCovered && entry.rare->owner != container.rare->owner &&
      !kept_by_task_only(container)) {
    start_registration(id, entry);  // R10
  }
  return true;
}

bool ReferenceTable::kept_by_task_only(const Entry& entry) const {
  if (entry.state != State::kCovered) return false;
  for (const ScopeId cover : entry.rare->covers) {
    if (scopes_.at(cover).kind == Scope::Kind::kTask) return true;
  }
  return false;
}

void ReferenceTable::start_registration(const ObjectId& id, Entry& entry) {
  set_state(id, entry, State::kAdding);
  entry.rare->generation = next_number_++;
  emit(ReferenceAction::Kind::kSendBorrowAdd, id, entry.rare->owner, entry.rare->generation);
}

void ReferenceTable::on_borrow_ack(const WorkerId& from, const ObjectId& id, std::uint64_t generation) {
  finish_registration(from, id, generation, State::kRegistered);
}

void ReferenceTable::on_borrow_nack(const WorkerId& from, const ObjectId& id, std::uint64_t generation) {
  finish_registration(from, id, generation, State::kLost);
}

void ReferenceTable::finish_registration(const WorkerId& from, const ObjectId& id, std::uint64_t generation,
                                         State state) {
  const auto position = entries_.find(id);
  if (position == entries_.end()) return;  // dropped while the ADD was under way; the REMOVE follows it
  Entry& entry = position->second;
  if (entry.state != State::kAdding || entry.rare->generation != generation || entry.rare->owner != from)
    return;
  set_state(id, entry, state);
  detach_all(id, entry);
  if (state == State::kRegistered) {
    register_foreign_dependents(entry);
  } else {
    forget(&references::Peer::borrowed, from, id);
    if (entry.held()) emit(ReferenceAction::Kind::kObjectLost, id, from);
    void_cover(id, entry);
  }
  settle();
}

// R10: the outer object is kept for longer than a task, so what it covers must not depend on its owner's
// life.
void ReferenceTable::register_foreign_dependents(Entry& outer) {
  if (outer.rare->scope == 0) return;
  for (const ObjectId& id : scopes_.at(outer.rare->scope).dependents) {
    Entry& entry = entries_.at(id);
    if (entry.state == State::kCovered && entry.rare->owner != outer.rare->owner)
      start_registration(id, entry);
  }
}

void ReferenceTable::release_borrowed(Map::iterator position) {
  const ObjectId id = position->first;
  Entry& entry = position->second;
  const WorkerId owner = entry.rare->owner;
  if (entry.state == State::kAdding || entry.state == State::kRegistered) {
    emit(ReferenceAction::Kind::kSendBorrowRemove, id, owner, entry.rare->generation);
  }
  emit(ReferenceAction::Kind::kReleaseBorrowed, id, owner);
  detach_all(id, entry);
  forget(&references::Peer::borrowed, owner, id);
  erase(position);
}

// --- The caller takes over what its task returned ----------------------------------------------------------

void ReferenceTable::adopt_return(const WorkerId& executor, std::uint64_t hold,
                                  std::span<const ReturnedRef> refs) {
  ScopeId scope = 0;
  if (hold != 0 && !is_lost(executor)) {
    scope = open_scope({.kind = Scope::Kind::kReturn, .peer = executor, .hold = hold});
    peers_[executor].scopes.insert(scope);
  }
  for (const ReturnedRef& ref : refs) adopt_one(ref, scope);
  if (scope != 0) {
    end_scope(scopes_.at(scope));
    dirty_scopes_.push_back(scope);
  }
  settle();
}

void ReferenceTable::adopt_one(const ReturnedRef& ref, ScopeId scope) {
  const auto outer = entries_.find(ref.outer);
  if (outer == entries_.end() || outer->second.state != State::kOwned || ref.inner == ref.outer) return;
  Entry& container = outer->second;  // nodes of the map do not move
  Entry& entry = borrowed_entry(ref.inner, ref.inner_owner);
  increment(&Entry::containers, ref.inner, entry);
  rare(container).contained.push_back(ref.inner);
  if (entry.state != State::kCovered && entry.state != State::kAdding) return;
  if (scope != 0) attach(ref.inner, entry, scope);
  if (scope == 0 && entry.rare->covers.empty() && entry.state == State::kCovered) {
    start_registration(ref.inner, entry);
  }
}

}  // namespace aktis
