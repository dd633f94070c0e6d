// Scopes: what vouches for references that are not registered, and how its end is held back.
#include "core/references.h"

namespace aktis {

references::ScopeId ReferenceTable::open_scope(Scope scope) {
  const ScopeId id = next_number_++;
  scopes_.emplace(id, std::move(scope));
  return id;
}

references::ScopeId ReferenceTable::task_scope(const TaskId& task, const WorkerId& caller) {
  ScopeId& id = task_scopes_[task];
  if (id == 0) {
    const bool broken = is_lost(caller);
    id = open_scope({.kind = Scope::Kind::kTask, .broken = broken, .task = task, .peer = caller});
    if (!broken) peers_[caller].scopes.insert(id);
  }
  return id;
}

references::ScopeId ReferenceTable::object_scope(const ObjectId& outer, Entry& entry) {
  ScopeId& id = entry.rare->scope;
  if (id == 0) {
    id = open_scope({.kind = Scope::Kind::kObject, .outer = outer});
  }
  return id;
}

void ReferenceTable::attach(const ObjectId& id, Entry& entry, ScopeId scope_id) {
  Scope& scope = scopes_.at(scope_id);
  if (scope.dependents.insert(id).second) entry.rare->covers.push_back(scope_id);
  if ((scope.ending || scope.broken) && entry.state == State::kCovered) start_registration(id, entry);
}

void ReferenceTable::detach_all(const ObjectId& id, Entry& entry) {
  for (const ScopeId cover : std::exchange(entry.rare->covers, {})) {
    Scope& scope = scopes_.at(cover);
    scope.dependents.erase(id);
    if (scope.dependents.empty()) dirty_scopes_.push_back(cover);
  }
}

bool ReferenceTable::end_task(const TaskId& task) {
  const auto position = task_scopes_.find(task);
  if (position == task_scopes_.end()) return true;
  end_scope(scopes_.at(position->second));
  settle();
  return false;
}

// The cover goes as soon as nothing rests under it; what is still held registers. What is not held any more
// is lingering: it waits for what rests under it in turn, then goes by itself.
void ReferenceTable::end_scope(Scope& scope) {
  scope.ending = true;
  for (const ObjectId& id : scope.dependents) {
    Entry& entry = entries_.at(id);
    if (entry.state == State::kCovered && entry.held()) start_registration(id, entry);
  }
}

void ReferenceTable::settle_scope(ScopeId id) {
  const auto position = scopes_.find(id);
  if (position != scopes_.end() && position->second.dependents.empty()) close_scope(id);
}

void ReferenceTable::close_scope(ScopeId id) {
  const Scope scope = std::move(scopes_.extract(id).mapped());
  switch (scope.kind) {
    case Scope::Kind::kTask:
      task_scopes_.erase(scope.task);
      forget(&references::Peer::scopes, scope.peer, id);
      if (!scope.ending) return;
      emit(ReferenceAction::Kind::kTaskEndable, {}, scope.peer);
      actions_.back().task = scope.task;
      return;
    case Scope::Kind::kObject:
      entries_.at(scope.outer).rare->scope = 0;
      dirty_objects_.push_back(scope.outer);
      return;
    case Scope::Kind::kReturn:
      forget(&references::Peer::scopes, scope.peer, id);
      if (scope.peer == self_) {
        release_hold(self_, scope.hold);
      } else {
        emit(ReferenceAction::Kind::kSendReturnRelease, {}, scope.peer, scope.hold);
      }
      return;
  }
}

// The guard is gone before its time: what rests under it can only try to register.
void ReferenceTable::register_dependents(const Scope& scope) {
  for (const ObjectId& id : scope.dependents) {
    Entry& entry = entries_.at(id);
    if (entry.state == State::kCovered) start_registration(id, entry);
  }
}

void ReferenceTable::dissolve_scope(ScopeId id) {
  const Scope scope = std::move(scopes_.extract(id).mapped());
  for (const ObjectId& dependent : scope.dependents) {
    std::erase(entries_.at(dependent).rare->covers, id);
  }
}

void ReferenceTable::void_cover(const ObjectId& outer, Entry& entry) {
  const ScopeId scope = std::exchange(entry.rare->scope, 0);
  if (scope != 0) {
    register_dependents(scopes_.at(scope));
    dissolve_scope(scope);
  }
  dirty_objects_.push_back(outer);
}

}  // namespace aktis
