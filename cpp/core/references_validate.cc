// The invariants of the reference table's records, as code. Tests call it after every step.
#include <algorithm>
#include <stdexcept>

#include "core/references.h"

namespace aktis {

namespace {

using references::Entry;
using references::Peer;
using references::Scope;
using references::State;

template <typename Id>
void require(bool condition, const Id& id, const char* invariant) {
  if (!condition) throw std::logic_error("ReferenceTable: " + id.hex() + ": " + invariant);
}

bool sends_messages(State state) {
  return state == State::kCovered || state == State::kAdding || state == State::kRegistered;
}

void validate_owned(const ObjectId& id, const Entry& entry) {
  const bool lent = entry.rare && !entry.rare->borrowers.empty();
  if (entry.state == State::kFreed) {
    require(
        !entry.held() && entry.lineage_pins != 0 && !lent && (!entry.rare || entry.rare->contained.empty()),
        id, "a freed entry is lineage and nothing else");
  } else {
    require(entry.held() || lent, id, "an owned object that nobody holds must be freed");
  }
  if (!entry.rare) return;
  require(entry.rare->covers.empty() && entry.rare->scope == 0, id, "the owner needs and gives no cover");
}

}  // namespace

void ReferenceTable::validate() const {
  std::unordered_map<ObjectId, std::uint32_t, IdHash> contained;
  std::unordered_map<ObjectId, std::uint32_t, IdHash> held_for_return;
  for (const auto& [id, entry] : entries_) {
    if (!entry.rare) continue;
    for (const ObjectId& inner : entry.rare->contained) ++contained[inner];
  }
  for (const auto& [number, hold] : holds_) {
    for (const ObjectId& id : hold.ids) ++held_for_return[id];
    require(peers_.contains(hold.caller) && peers_.at(hold.caller).holds.contains(number), hold.caller,
            "a return hold must be found when its caller dies");
  }
  for (const auto& [id, entry] : entries_) {
    require(entry.containers == contained[id], id, "containers must count the objects that contain it");
    require(entry.return_holds == held_for_return[id], id, "return_holds must count the holds that name it");
    if (entry.owned()) {
      validate_owned(id, entry);
    } else {
      validate_borrowed(id, entry);
    }
  }
  validate_scopes();
  validate_peers();
  require(dirty_objects_.empty() && dirty_scopes_.empty(), self_, "every verb must settle");
}

void ReferenceTable::validate_borrowed(const ObjectId& id, const Entry& entry) const {
  require(entry.rare != nullptr, id, "a borrowed object must name its owner");
  const references::Rare& rare = *entry.rare;
  require(rare.borrowers.empty() && rare.contained.empty(), id, "only an owner has borrowers and contents");
  require(entry.lineage_pins == 0, id, "only an owner keeps lineage");
  require(entry.held() || rare.scope != 0, id, "a borrowed object that nobody holds must be released");
  require(rare.scope == 0 || scopes_.contains(rare.scope), id, "its scope must exist");
  require(entry.held() || scopes_.at(rare.scope).ending, id, "a lingering object must be about to go");
  require((entry.state == State::kCovered) <= !rare.covers.empty(), id,
          "a covered reference must have a cover");
  require(rare.covers.empty() || entry.state == State::kCovered || entry.state == State::kAdding, id,
          "covers are for references that are not registered");
  require(rare.scope == 0 || sends_messages(entry.state), id, "what is dead can not cover");
  for (const ScopeId cover : rare.covers) {
    require(scopes_.contains(cover) && scopes_.at(cover).dependents.contains(id), id,
            "its cover must know it");
    const Scope& scope = scopes_.at(cover);
    const bool must_register = scope.broken || (scope.ending && entry.held());
    require(!must_register || entry.state == State::kAdding, id, "an ending cover must have it registered");
  }
  if (!sends_messages(entry.state)) return;
  require(!is_lost(rare.owner), id, "the state must know that the owner died");
  require(peers_.contains(rare.owner) && peers_.at(rare.owner).borrowed.contains(id), id,
          "a borrowed object must be found when its owner dies");
}

void ReferenceTable::validate_scopes() const {
  std::size_t tasks = 0;
  for (const auto& [number, scope] : scopes_) {
    const ObjectId& id = scope.outer;
    require(!scope.dependents.empty(), id, "a scope without dependents must be closed");
    for (const ObjectId& dependent : scope.dependents) {
      require(entries_.contains(dependent), dependent, "a dependent must be in the table");
      const auto& covers = entries_.at(dependent).rare->covers;
      require(std::count(covers.begin(), covers.end(), number) == 1, dependent,
              "a dependent must name its cover");
    }
    if (scope.kind == Scope::Kind::kObject) {
      require(entries_.contains(id) && entries_.at(id).rare->scope == number, id,
              "an object must know its scope");
      continue;
    }
    if (scope.kind == Scope::Kind::kTask) {
      ++tasks;
      require(task_scopes_.contains(scope.task) && task_scopes_.at(scope.task) == number, scope.task,
              "a task must find its scope");
    } else {
      require(scope.ending, scope.peer, "taking a reply in is over at once but for acknowledgements");
    }
    if (scope.broken) continue;
    require(peers_.contains(scope.peer) && peers_.at(scope.peer).scopes.contains(number), scope.peer,
            "a scope must be found when its guard dies");
  }
  require(tasks == task_scopes_.size(), self_, "every task must have a scope");
}

void ReferenceTable::validate_peers() const {
  for (const auto& [worker, peer] : peers_) {
    require(!peer.empty() && !is_lost(worker), worker, "a peer without business must be forgotten");
    for (const ObjectId& id : peer.lent) {
      require(entries_.contains(id) && entries_.at(id).state == State::kOwned &&
                  entries_.at(id).rare->borrowers.contains(worker),
              id, "what is lent must have its borrower");
    }
    for (const ObjectId& id : peer.borrowed) {
      require(entries_.contains(id) && sends_messages(entries_.at(id).state) &&
                  entries_.at(id).rare->owner == worker,
              id, "what is borrowed must have its owner");
    }
    for (const std::uint64_t hold : peer.holds) require(holds_.contains(hold), worker, "its hold must exist");
    for (const ScopeId scope : peer.scopes) require(scopes_.contains(scope), worker, "its scope must exist");
  }
  for (const auto& [id, entry] : entries_) {
    if (!entry.owned() || !entry.rare) continue;
    for (const auto& [borrower, generation] : entry.rare->borrowers) {
      require(peers_.contains(borrower) && peers_.at(borrower).lent.contains(id), id,
              "a borrower must be found when it dies");
    }
  }
}

}  // namespace aktis
