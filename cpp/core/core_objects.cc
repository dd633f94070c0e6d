// Objects in this process: storing, waiting for, reading, fetching from their owner or from shared memory.
#include <algorithm>

#include "core/core.h"

namespace aktis::core {
ObjectEntry& Core::entry(const ObjectId& id) { return objects_[id]; }

ObjectEntry* Core::find(const ObjectId& id) {
  const auto known = objects_.find(id);
  return known == objects_.end() ? nullptr : &known->second;
}

TaskId Core::next_task_id(bool is_call) {
  return make_task_id(config_.worker, ++last_task_ | (is_call ? kCallBit : 0));
}

ObjectId Core::next_put_id() { return ObjectId::of(next_task_id(), ObjectId::kPutBit); }

// ---- storing ----

// Writes a value into shared memory, sealed and pinned once; `mapped` is empty unless it is new.
Core::Stored Core::store(const ObjectId& id, const Parts& parts, const WorkerId& owner, const WaitFor& wait,
                         Bytes& mapped) {
  const auto mapping = plasma_->mapping();  // another thread may close it meanwhile
  plasma::CreateResult created;
  if (wait) {
    plasma::Client::Creation creation;
    plasma_->begin_create(creation, id, parts.size(), owner, wire::Clock::now() + plasma_->create_timeout());
    if (!creation.waiter.completed()) wait(creation.waiter, creation.give_up_at());
    created = plasma_->end_create(creation);
  } else if (auto at_once = plasma_->try_create(id, parts.size(), owner)) {
    created = std::move(*at_once);
  } else {
    return Stored::kMustWait;
  }
  switch (created.error) {
    case plasma::CreateError::kNone:
      break;
    case plasma::CreateError::kExists:
      return Stored::kFound;
    case plasma::CreateError::kTooLarge:
    case plasma::CreateError::kFull:
      throw StoreFullError(created.message);
    case plasma::CreateError::kDisconnected:
      throw CoreError(created.message);
  }
  const auto places = write_value_head(created.writable, parts.kind, parts.inband, parts.buffers);
  for (std::size_t i = 0; i < places.size(); ++i) plasma_->copy(places[i], parts.buffers[i]);
  mapped = plasma_->seal(id).data;
  if (mapped.empty()) throw CoreError("the session was shut down while a value was stored");
  return Stored::kNew;
}

void Core::put(const ObjectId& id, const Parts& parts, const WaitFor& wait) {
  const std::size_t size = parts.size();
  std::shared_ptr<const OwnedValue> value;
  Bytes mapped;
  if (size <= limits_.inline_bytes) {
    value = OwnedValue::make(parts.kind, parts.inband, parts.buffers);
  } else {
    if (store(id, parts, config_.worker, wait, mapped) != Stored::kNew)
      throw CoreError("object " + id.hex() + " is in the store already although its id is new");
  }
  std::vector<ObjectId> inners;
  for (const RefId& ref : parts.nested) inners.push_back(ref.id);
  Guard guard(mutex_);
  drain_drops();
  references_.add_owned(id, 1);
  if (!inners.empty()) references_.set_contained(id, inners);
  ObjectEntry& stored = entry(id);
  stored.size_bytes = size;
  stored.value = std::move(value);
  stored.mapped = mapped;
  stored.state = mapped.empty() ? ObjectState::kInline : ObjectState::kMapped;
  settle_references();
  unlock_and_flush(guard);
}

ObjectId Core::pending_object() {
  const ObjectId id = next_put_id();
  Guard guard(mutex_);
  references_.add_owned(id, 1);
  entry(id);
  return id;
}

void Core::complete_object(const ObjectId& id, const Parts& parts) {
  auto value = OwnedValue::make(parts.kind, parts.inband, parts.buffers);
  std::vector<ObjectId> inners;
  for (const RefId& ref : parts.nested) inners.push_back(ref.id);
  Guard guard(mutex_);
  if (!inners.empty() && references_.is_owned(id)) references_.set_contained(id, inners);
  store_inline(id, std::move(value), parts.kind == ValueKind::kError);
  unlock_and_flush(guard);
}

// An argument that its owner says is in this node's shared memory.
void Core::note_in_plasma(const ObjectId& id, std::uint32_t copy) {
  Guard guard(mutex_);
  // What is ours we know better: it may have been lost since the task was sent.
  if (const ObjectEntry* known = find(id); known == nullptr || !known->owned) store_plasma(id, 0, copy);
  unlock_and_flush(guard);
}

void Core::store_inline(const ObjectId& id, std::shared_ptr<const OwnedValue> value, bool is_error) {
  ObjectEntry* known = find(id);
  if (known == nullptr || (known->exists() && !is_error)) return;
  if (known->state == ObjectState::kMapped) plasma_->unpin(id);
  known->size_bytes = value->view().size();
  known->value = std::move(value);
  known->mapped = {};
  known->is_error = is_error;
  known->lost = false;
  known->state = ObjectState::kInline;
  complete(id, *known);
}

void Core::store_plasma(const ObjectId& id, std::uint64_t size_bytes, std::uint32_t copy) {
  ObjectEntry* known = find(id);
  if (known == nullptr) {  // nobody wants the result any more
    to_remove_.push_back(id);
    return;
  }
  known->copy = std::max(known->copy, copy);
  if (known->freed) to_remove_.push_back(id);  // made once more, together with a result that was lost
  if (known->exists()) return;
  known->size_bytes = size_bytes;
  known->state = ObjectState::kPlasma;
  complete(id, *known);
}

// The object exists now: whoever waits for that goes on. Getters of a value in shared memory go on waiting
// until it is mapped.
void Core::complete(const ObjectId& id, ObjectEntry& known) {
  free_if_wanted(id, known);
  const bool readable = known.readable();
  std::vector<WaitGroup*> still;
  for (WaitGroup* group : known.waiting) {
    if (group->values && !readable) {
      still.push_back(group);
    } else if (group->remaining > 0 && --group->remaining == 0) {
      group->waiter.complete();
    }
  }
  known.waiting = std::move(still);
  if (!known.waiting.empty() || (known.watched_value && !readable)) fetch(id, known);
  for (const WorkerId& borrower : std::exchange(known.remote_waiting, {})) answer_remote(id, known, borrower);
  if (known.watched || (known.watched_value && readable)) {
    events_.push({.kind = EventKind::kObjectReady, .first = id.binary(), .number = readable ? 1 : 0});
    known.watched = false;
    known.watched_value &= !readable;
  }
  for (const TaskRecord* task : std::exchange(known.dependents, {})) resolved_.push_back(task->id);
  work_off_resolved();
}

// By a work list: an error that passes through a chain of a million tasks must not overflow the stack.
void Core::work_off_resolved() {
  if (working_off_) return;
  working_off_ = true;
  while (!resolved_.empty()) {
    const TaskId id = resolved_.back();
    resolved_.pop_back();
    if (const auto task = tasks_.find(id); task != tasks_.end()) argument_there(*task->second);
  }
  working_off_ = false;
}

// Drops the entry: nobody here (and, for our own objects, nobody anywhere) holds a reference any more.
void Core::forget(const ObjectId& id) {
  const auto known = objects_.find(id);
  if (known == objects_.end()) return;
  if (known->second.state == ObjectState::kMapped) plasma_->unpin(id);
  if (known->second.asked_store) plasma_->cancel_request(id);
  if (known->second.owned &&
      (known->second.state == ObjectState::kMapped || known->second.state == ObjectState::kPlasma)) {
    to_remove_.push_back(id);
  }
  if (!free_when_there_.empty()) free_when_there_.erase(id);
  if (known->second.watch_free) events_.push({.kind = EventKind::kObjectFreed, .first = id.binary()});
  objects_.erase(known);
}

// ---- waiting and reading ----

void Core::attach(WaitGroup& group, std::span<const ObjectId> ids, std::size_t enough, bool values) {
  Guard guard(mutex_);
  drain_drops();
  group.values = values;
  group.remaining = enough;
  std::vector<ObjectId> request;
  for (const ObjectId& id : ids) {
    ObjectEntry& known = entry(id);
    if (values ? known.readable() : known.exists()) {
      if (group.remaining > 0) --group.remaining;
      continue;
    }
    known.waiting.push_back(&group);
    let_stream_end(id);
    if (known.state == ObjectState::kPlasma && !known.asked_store) {
      known.asked_store = true;
      request.push_back(id);
    } else {
      fetch(id, known);
    }
  }
  if (group.remaining == 0) group.waiter.complete();
  unlock_and_flush(guard);
  if (!request.empty()) plasma_->request(request);  // one message for all of them
}

void Core::detach(WaitGroup& group, std::span<const ObjectId> ids) {
  Guard guard(mutex_);
  for (const ObjectId& id : ids) {
    if (ObjectEntry* known = find(id)) {
      known->waiting.erase(std::remove(known->waiting.begin(), known->waiting.end(), &group),
                           known->waiting.end());
    }
  }
}

bool Core::ready(const ObjectId& id) {
  Guard guard(mutex_);
  const ObjectEntry* known = find(id);
  return known != nullptr && known->exists();
}

bool Core::readable(const ObjectId& id) {
  Guard guard(mutex_);
  const ObjectEntry* known = find(id);
  return known != nullptr && known->readable();
}

bool Core::awaits_owner(const ObjectId& id) {
  Guard guard(mutex_);
  const ObjectEntry* known = find(id);
  return known != nullptr && !known->owned && !known->exists();
}

std::vector<bool> Core::ready_flags(std::span<const ObjectId> ids) {
  std::vector<bool> flags;
  flags.reserve(ids.size());
  Guard guard(mutex_);
  for (const ObjectId& id : ids) {
    const ObjectEntry* known = find(id);
    flags.push_back(known != nullptr && known->exists());
  }
  return flags;
}

// One more pin for the caller when it is mapped: released by unpin().
std::optional<Readable> Core::read(const ObjectId& id) {
  Guard guard(mutex_);
  const ObjectEntry* known = find(id);
  if (known == nullptr || !known->readable()) return std::nullopt;
  if (known->state == ObjectState::kInline) return Readable{known->value, known->value->view(), false};
  auto mapping = plasma_->pin(id);
  if (!mapping) return std::nullopt;  // closed meanwhile
  return Readable{nullptr, known->mapped, true, std::move(mapping)};
}

void Core::unpin(const ObjectId& id) {
  if (plasma_ && !closed_) plasma_->unpin(id);
}

bool Core::watch(const ObjectId& id, bool value) {
  Guard guard(mutex_);
  ObjectEntry& known = entry(id);
  if (value ? known.readable() : known.exists()) return true;
  (value ? known.watched_value : known.watched) = true;
  let_stream_end(id);
  fetch(id, known);
  unlock_and_flush(guard);
  return false;
}

void Core::watch_free(const ObjectId& id) {
  Guard guard(mutex_);
  entry(id).watch_free = true;
}

// ---- fetching ----

void Core::fetch(const ObjectId& id, ObjectEntry& known) {
  if (known.state == ObjectState::kPlasma) {
    if (known.asked_store) return;
    known.asked_store = true;
    plasma_->request(std::span(&id, 1));
  } else if (known.state == ObjectState::kPending && !known.owned && !known.asked_owner) {
    known.asked_owner = true;
    wire::ByteWriter out;
    encode_object_get(out, id);
    send(known.owner, CoreFrame::kObjectGet, out.view());
  }
}

bool Core::on_object_get(const WorkerId& from, Bytes payload) {
  const auto message = decode_object_get(payload);
  if (!message) return false;
  const ObjectId id = message->id;
  ObjectEntry* known = find(id);
  answer_when_there(id, known, from, known != nullptr && known->lost);
  return true;
}

// Answers a borrower now, or as soon as there is an answer.
void Core::answer_when_there(const ObjectId& id, ObjectEntry* known, const WorkerId& borrower, bool wait) {
  if (known == nullptr || !known->owned) {
    wire::ByteWriter out;
    ObjectValueMessage gone;
    gone.id = id;
    gone.reason = "its owner does not have it any more";
    encode_object_value(out, gone);
    send(borrower, CoreFrame::kObjectValue, out.view());
  } else if (known->exists() && !wait) {
    answer_remote(id, *known, borrower);
  } else {
    let_stream_end(id);
    auto& waiting = known->remote_waiting;
    if (std::find(waiting.begin(), waiting.end(), borrower) == waiting.end()) waiting.push_back(borrower);
  }
}

void Core::answer_remote(const ObjectId& id, ObjectEntry& known, const WorkerId& borrower) {
  if (known.state == ObjectState::kInline) {
    send_value(id, known.value->view(), borrower);
    return;
  }
  wire::ByteWriter out;
  ObjectValueMessage message;
  message.id = id;
  message.state = RemoteState::kPlasma;
  message.size_bytes = known.size_bytes;
  message.copy = known.copy;
  encode_object_value(out, message);
  send(borrower, CoreFrame::kObjectValue, out.view());
}

void Core::send_value(const ObjectId& id, Bytes value, const WorkerId& borrower) {
  wire::ByteWriter out;
  ObjectValueMessage message;
  message.id = id;
  message.state = RemoteState::kInline;
  message.size_bytes = value.size();
  message.value = value;
  encode_object_value(out, message);
  send(borrower, CoreFrame::kObjectValue, out.view());
}

bool Core::on_object_value(const WorkerId& from, Bytes payload) {
  const auto message = decode_object_value(payload);
  if (!message) return false;
  ObjectEntry* known = find(message->id);
  if (known == nullptr || known->owned || known->owner != from) return true;
  if (!std::exchange(known->asked_owner, false) || known->exists()) return true;
  if (message->state == RemoteState::kInline) {
    const bool is_error = parse_value(message->value)->kind == ValueKind::kError;
    store_inline(message->id, OwnedValue::copy_of(message->value), is_error);
  } else if (message->state == RemoteState::kPlasma) {
    store_plasma(message->id, message->size_bytes, message->copy);
  } else {
    events_.push({.kind = EventKind::kObjectLost,
                  .first = message->id.binary(),
                  .text = std::string(message->reason)});
  }
  return true;
}

void Core::on_plasma_object(const ObjectId& id, plasma::ObjectView view) {
  Guard guard(mutex_);
  ObjectEntry* known = find(id);
  if (known == nullptr || known->state != ObjectState::kPlasma) {
    guard.unlock();
    plasma_->unpin(id);
    return;
  }
  known->asked_store = false;
  known->mapped = view.data;
  known->state = ObjectState::kMapped;
  complete(id, *known);
  unlock_and_flush(guard);
}

void Core::on_plasma_lost(const ObjectId& id) {
  Guard guard(mutex_);
  ObjectEntry* known = find(id);
  if (known == nullptr || known->state != ObjectState::kPlasma) return;
  missed_in_plasma(id, *known);
  unlock_and_flush(guard);
}

// The store's connection broke: nobody will answer what it was asked for.
void Core::on_plasma_gone() {
  Guard guard(mutex_);
  store_gone_ = true;
  for (auto& [id, known] : objects_) {
    if (known.state == ObjectState::kPlasma && known.asked_store) missed_in_plasma(id, known);
  }
  unlock_and_flush(guard);
}

}  // namespace aktis::core
