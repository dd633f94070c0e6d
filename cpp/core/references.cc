// Counts, and what the owner of an object does.
#include "core/references.h"

#include <stdexcept>

namespace aktis {

using references::ReturnHold;

namespace {

// Enough for the tasks in flight of one process; more would only hold memory after a burst.
constexpr std::size_t kSpareNodes = 4096;

[[noreturn]] void misuse(const char* verb, const ObjectId& id, const char* what) {
  throw std::logic_error(std::string("ReferenceTable::") + verb + "(" + id.hex() + "): " + what);
}

}  // namespace

ReferenceTable::ReferenceTable(const WorkerId& self) : self_(self) {
  entries_.max_load_factor(0.5f);  // short chains: finding is most of the work
  entries_.reserve(kSpareNodes);
  spare_nodes_.reserve(kSpareNodes);
}

// --- Handles -----------------------------------------------------------------------------------------------

void ReferenceTable::add_owned(const ObjectId& id, std::uint32_t local_handles) {
  if (local_handles == 0) misuse("add_owned", id, "an object without a handle could never be freed");
  auto [position, inserted] = insert(id);
  Entry& entry = position->second;
  if (!inserted) {
    if (entry.state != State::kFreed) misuse("add_owned", id, "is in the table already");
    revive(id, entry);
  }
  entry.local += local_handles;
}

void ReferenceTable::add_local(const ObjectId& id) { increment(&Entry::local, id, at(id, "add_local")); }

void ReferenceTable::remove_local(const ObjectId& id) { remove_local({&id, 1}); }

void ReferenceTable::remove_local(std::span<const ObjectId> ids) {
  // All counts go down before anything is released: an inner dropped after its outer needs no registration.
  for (const ObjectId& id : ids) decrement(&Entry::local, id, "remove_local");
  settle();
}

void ReferenceTable::pin_forever(const ObjectId& id) {
  Entry& entry = at(id, "pin_forever");
  if (!entry.held()) revive(id, entry);
  entry.pinned = true;
}

// --- Submitted tasks ---------------------------------------------------------------------------------------

void ReferenceTable::add_task_use(const ObjectId& id) {
  increment(&Entry::task_uses, id, at(id, "add_task_use"));
}

void ReferenceTable::remove_task_use(const ObjectId& id) { remove_task_use({&id, 1}); }

void ReferenceTable::remove_task_use(std::span<const ObjectId> ids) {
  for (const ObjectId& id : ids) decrement(&Entry::task_uses, id, "remove_task_use");
  settle();
}

void ReferenceTable::add_lineage_pin(const ObjectId& id) {
  Entry& entry = at(id, "add_lineage_pin");
  if (!entry.owned()) misuse("add_lineage_pin", id, "only the owner can compute an object again");
  ++entry.lineage_pins;
}

void ReferenceTable::remove_lineage_pin(const ObjectId& id) {
  Entry& entry = at(id, "remove_lineage_pin");
  if (entry.lineage_pins == 0) misuse("remove_lineage_pin", id, "the count is zero");
  if (--entry.lineage_pins == 0 && entry.state == State::kFreed) {
    dirty_objects_.push_back(id);
    settle();
  }
}

void ReferenceTable::set_contained(const ObjectId& outer, std::span<const ObjectId> inners) {
  Entry& container = at(outer, "set_contained");
  if (container.state != State::kOwned)
    misuse("set_contained", outer, "only the owner counts what it contains");
  for (const ObjectId& inner : inners) {
    if (inner == outer) continue;  // would keep itself for ever
    increment(&Entry::containers, inner, at(inner, "set_contained"));
    rare(container).contained.push_back(inner);
  }
}

void ReferenceTable::take_contents(const ObjectId& outer, const ObjectId& source) {
  const auto to = entries_.find(outer);
  const auto from = entries_.find(source);
  if (to == entries_.end() || to->second.state != State::kOwned || from == entries_.end()) return;
  if (!from->second.owned()) {
    set_contained(outer, {&source, 1});
  } else if (from->second.rare) {
    set_contained(outer, std::vector(from->second.rare->contained));
  }
}

// --- Results that this process made ------------------------------------------------------------------------

std::uint64_t ReferenceTable::hold_return(const WorkerId& caller, std::span<const ObjectId> ids) {
  if (ids.empty() || is_lost(caller)) return 0;
  for (const ObjectId& id : ids) increment(&Entry::return_holds, id, at(id, "hold_return"));
  const std::uint64_t hold = next_number_++;
  holds_.emplace(hold, ReturnHold{caller, {ids.begin(), ids.end()}});
  peers_[caller].holds.insert(hold);
  return hold;
}

void ReferenceTable::on_return_release(const WorkerId& from, std::uint64_t hold) {
  release_hold(from, hold);
  settle();
}

void ReferenceTable::release_hold(const WorkerId& caller, std::uint64_t hold) {
  const auto position = holds_.find(hold);
  if (position == holds_.end() || position->second.caller != caller) return;
  forget(&references::Peer::holds, caller, hold);
  drop_hold(hold);
}

void ReferenceTable::drop_hold(std::uint64_t hold) {
  const auto node = holds_.extract(hold);
  for (const ObjectId& id : node.mapped().ids) decrement(&Entry::return_holds, id, "drop_hold");
}

// --- Messages to the owner ---------------------------------------------------------------------------------

void ReferenceTable::on_borrow_add(const WorkerId& from, const ObjectId& id, std::uint64_t generation) {
  const auto position = entries_.find(id);
  // One that we gave up may be alive after all; taking it back would need a second report of its death.
  if (is_lost(from) || position == entries_.end() || position->second.state != State::kOwned) {
    emit(ReferenceAction::Kind::kSendBorrowNack, id, from, generation);
    return;
  }
  std::uint64_t& current = rare(position->second).borrowers[from];
  if (generation < current) return;  // an old one; the newer ADD was answered
  current = generation;
  peers_[from].lent.insert(id);
  emit(ReferenceAction::Kind::kSendBorrowAck, id, from, generation);
}

void ReferenceTable::on_borrow_remove(const WorkerId& from, const ObjectId& id, std::uint64_t generation) {
  const auto position = entries_.find(id);
  if (position == entries_.end() || !position->second.owned() || !position->second.rare) return;
  auto& borrowers = position->second.rare->borrowers;
  const auto borrower = borrowers.find(from);
  if (borrower == borrowers.end() || borrower->second != generation) return;
  borrowers.erase(borrower);
  forget(&references::Peer::lent, from, id);
  dirty_objects_.push_back(id);
  settle();
}

// --- Settling ----------------------------------------------------------------------------------------------

void ReferenceTable::settle() {
  while (!dirty_objects_.empty() || !dirty_scopes_.empty()) {
    // Objects first: one that goes may empty the scope, which then needs to be looked at only once.
    if (!dirty_objects_.empty()) {
      const ObjectId id = dirty_objects_.back();
      dirty_objects_.pop_back();
      settle_object(id);
    } else {
      const ScopeId id = dirty_scopes_.back();
      dirty_scopes_.pop_back();
      settle_scope(id);
    }
  }
}

void ReferenceTable::settle_object(const ObjectId& id) {
  const auto position = entries_.find(id);
  if (position == entries_.end() || position->second.held()) return;
  Entry& entry = position->second;
  if (entry.state == State::kOwned) {
    if (!entry.rare || entry.rare->borrowers.empty()) free_owned(position);
  } else if (entry.state == State::kFreed) {
    if (entry.lineage_pins != 0) return;
    emit(ReferenceAction::Kind::kLineageDroppable, id);
    erase(position);
  } else if (entry.rare->scope != 0) {
    // Closing the scope makes the object dirty again.
    Scope& scope = scopes_.at(entry.rare->scope);
    if (!scope.ending) end_scope(scope);
  } else {
    release_borrowed(position);
  }
}

void ReferenceTable::free_owned(Map::iterator position) {
  Entry& entry = position->second;
  const bool lineage_kept = entry.lineage_pins != 0;
  emit(ReferenceAction::Kind::kFreeObject, position->first);
  actions_.back().lineage_kept = lineage_kept;
  if (entry.rare) {
    for (const ObjectId& inner : entry.rare->contained) decrement(&Entry::containers, inner, "free");
  }
  if (lineage_kept) {
    // Without looking at what it may contain again when it is revived: see formerly_contained().
    const auto former = std::exchange(entry.rare, nullptr);
    if (former && !former->contained.empty()) rare(entry).former = std::move(former->contained);
    set_state(position->first, entry, State::kFreed);
  } else {
    erase(position);
  }
}

// --- Records -----------------------------------------------------------------------------------------------

references::Rare& ReferenceTable::rare(Entry& entry) {
  if (!entry.rare) entry.rare = std::make_unique<Rare>();
  return *entry.rare;
}

references::Entry& ReferenceTable::at(const ObjectId& id, const char* verb) {
  const auto position = entries_.find(id);
  if (position == entries_.end()) misuse(verb, id, "is not in the table");
  return position->second;
}

std::pair<ReferenceTable::Map::iterator, bool> ReferenceTable::insert(const ObjectId& id) {
  if (spare_nodes_.empty()) return entries_.try_emplace(id);
  Map::node_type& spare = spare_nodes_.back();
  spare.key() = id;
  auto result = entries_.insert(std::move(spare));
  if (result.inserted) {
    spare_nodes_.pop_back();
  } else {
    spare = std::move(result.node);
  }
  return {result.position, result.inserted};
}

void ReferenceTable::erase(Map::iterator position) {
  if (spare_nodes_.size() >= kSpareNodes) {
    entries_.erase(position);
    return;
  }
  Map::node_type node = entries_.extract(position);
  node.mapped() = Entry{};
  spare_nodes_.push_back(std::move(node));
}

void ReferenceTable::set_state(const ObjectId& id, Entry& entry, State state) {
  if (!references::kAllowed[static_cast<int>(entry.state)][static_cast<int>(state)]) {
    misuse("set_state", id, "this change of state is not allowed");
  }
  entry.state = state;
}

void ReferenceTable::increment(std::uint32_t Entry::* count, const ObjectId& id, Entry& entry) {
  if (!entry.held()) revive(id, entry);
  ++(entry.*count);
}

// An entry that was about to go, or of which only the lineage was left, is held again.
void ReferenceTable::revive(const ObjectId& id, Entry& entry) {
  if (entry.state == State::kFreed) set_state(id, entry, State::kOwned);
  if (!entry.rare) return;
  if (entry.rare->scope != 0) scopes_.at(entry.rare->scope).ending = false;
  if (entry.state != State::kCovered) return;
  // It was only lingering under a cover that waits for its end; now it may stay for long.
  for (const ScopeId cover : entry.rare->covers) {
    if (entry.state == State::kCovered && scopes_.at(cover).ending) start_registration(id, entry);
  }
}

// Leaves the rest to settle(), except for the common object, of which nothing else can depend.
void ReferenceTable::decrement(std::uint32_t Entry::* count, const ObjectId& id, const char* verb) {
  const auto position = entries_.find(id);
  if (position == entries_.end()) misuse(verb, id, "is not in the table");
  Entry& entry = position->second;
  if (entry.*count == 0) misuse(verb, id, "the count is zero");
  if (--(entry.*count) != 0 || entry.held()) return;
  if (entry.state == State::kOwned && !entry.rare) {
    free_owned(position);
  } else {
    dirty_objects_.push_back(id);
  }
}

void ReferenceTable::emit(ReferenceAction::Kind kind, const ObjectId& object, const WorkerId& peer,
                          std::uint64_t generation) {
  ReferenceAction& action = actions_.emplace_back();
  action.kind = kind;
  action.object = object;
  action.peer = peer;
  action.generation = generation;
}

// --- Results and questions ---------------------------------------------------------------------------------

std::vector<ReferenceAction> ReferenceTable::take_actions() { return std::exchange(actions_, {}); }

void ReferenceTable::take_actions(std::vector<ReferenceAction>& actions) {
  actions.clear();
  actions.swap(actions_);
}

bool ReferenceTable::is_owned(const ObjectId& id) const {
  const auto position = entries_.find(id);
  return position != entries_.end() && position->second.owned();
}

bool ReferenceTable::is_freed(const ObjectId& id) const {
  const auto position = entries_.find(id);
  return position != entries_.end() && position->second.state == State::kFreed;
}

std::span<const ObjectId> ReferenceTable::contained(const ObjectId& outer) const {
  const auto position = entries_.find(outer);
  if (position == entries_.end() || !position->second.rare) return {};
  return position->second.rare->contained;
}

std::vector<ObjectId> ReferenceTable::formerly_contained(const ObjectId& outer) const {
  const auto position = entries_.find(outer);
  if (position == entries_.end() || !position->second.rare) return {};
  return position->second.rare->former;
}

WorkerId ReferenceTable::owner_of(const ObjectId& id) const { return counts(id).owner; }

ReferenceCounts ReferenceTable::counts(const ObjectId& id) const {
  const auto position = entries_.find(id);
  if (position == entries_.end()) return {};
  const Entry& entry = position->second;
  const bool rare = entry.rare != nullptr;
  return {.state = entry.state,
          .local = entry.local,
          .task_uses = entry.task_uses,
          .containers = entry.containers,
          .return_holds = entry.return_holds,
          .lineage_pins = entry.lineage_pins,
          .borrowers = rare ? static_cast<std::uint32_t>(entry.rare->borrowers.size()) : 0,
          .pinned = entry.pinned,
          .owner = entry.owned() ? self_ : entry.rare->owner};
}

std::vector<ObjectId> ReferenceTable::ids() const {
  std::vector<ObjectId> ids;
  ids.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) ids.push_back(id);
  return ids;
}

bool ReferenceTable::idle() const {
  return entries_.empty() && scopes_.empty() && task_scopes_.empty() && holds_.empty() && peers_.empty();
}

}  // namespace aktis
