#include "plasma/client_objects.h"

#include <stdexcept>
#include <utility>

namespace aktis::plasma {

using State = ClientObjectState;

ClientObject* ClientObjects::find(const ObjectId& id) {
  auto found = objects_.find(id);
  return found == objects_.end() ? nullptr : &found->second;
}

ClientObjects::MayCreate ClientObjects::may_create(const ObjectId& id, OpWriter& ops) {
  ClientObject* object = find(id);
  if (object == nullptr || object->state == State::kAsked) return MayCreate::kYes;
  if (object->state == State::kCreating) return MayCreate::kExists;
  if (object->state == State::kIdle) let_go(*object, ops);
  return MayCreate::kAskStore;
}

void ClientObjects::created(const ObjectId& id, const WorkerId& owner, Place place,
                            std::optional<SlabCutter::Cut> cut, bool primary) {
  ClientObject& object = objects_[id];
  if (object.state == State::kHeld) supersede(object);
  object.id = id;
  object.owner = owner;
  object.state = State::kCreating;
  object.primary = primary;
  object.removed = false;
  object.offset = place.offset;
  object.size_bytes = place.size_bytes;
  object.cut = cut;
}

ClientObjects::Sealed ClientObjects::seal(const ObjectId& id) {
  ClientObject* object = find(id);
  if (object == nullptr || object->state != State::kCreating) {
    throw std::logic_error("seal of object " + id.hex() + ", which is not being created");
  }
  Sealed sealed;
  sealed.op = {id, object->owner, object->offset, object->size_bytes,
               static_cast<std::uint8_t>(object->primary ? kPrimary : 0)};
  sealed.cut = object->cut;
  sealed.wanted = object->asked;
  object->cut.reset();
  object->asked = false;
  object->store_pins = 1;
  hold(*object, object->users + (sealed.wanted ? 2 : 1));
  return sealed;
}

ClientObjects::Aborted ClientObjects::abort(const ObjectId& id, OpWriter& ops) {
  ClientObject* object = find(id);
  if (object == nullptr || object->state != State::kCreating) {
    throw std::logic_error("abort of object " + id.hex() + ", which is not being created");
  }
  const Aborted aborted{{object->offset, object->size_bytes}, object->cut, std::nullopt};
  if (object->users > 0) return restore(*object, aborted);
  release_older(*object, ops);
  if (!object->asked) {
    objects_.erase(id);
    return aborted;
  }
  object->state = State::kAsked;
  object->cut.reset();
  if (!object->store_asked) ask_store(*object, ops);
  return aborted;
}

// What is read here of an object that the store has lost stays readable while it is made again.
void ClientObjects::supersede(ClientObject& object) {
  --held_;
  held_bytes_ -= object.size_bytes;
  object.older.push_back({{object.offset, object.size_bytes}, object.store_pins});
}

// Nothing came of making it again.
ClientObjects::Aborted ClientObjects::restore(ClientObject& object, Aborted aborted) {
  const ClientObject::Older last = object.older.back();
  object.older.pop_back();
  object.cut.reset();
  object.offset = last.place.offset;
  object.size_bytes = last.place.size_bytes;
  object.store_pins = last.store_pins;
  if (std::exchange(object.asked, false)) aborted.wanted = last.place;
  hold(object, object.users + (aborted.wanted ? 1 : 0));
  return aborted;
}

void ClientObjects::release_older(ClientObject& object, OpWriter& ops) {
  for (const auto& older : std::exchange(object.older, {})) ops.release(older.place.offset, older.store_pins);
}

std::optional<Place> ClientObjects::pin_if_mapped(const ObjectId& id) {
  ClientObject* object = find(id);
  if (object == nullptr || object->state == State::kAsked || object->state == State::kCreating) {
    return std::nullopt;
  }
  if (object->state == State::kIdle) wake_idle(*object);
  ++object->users;
  return Place{object->offset, object->size_bytes};
}

bool ClientObjects::pin(const ObjectId& id) {
  ClientObject* object = find(id);
  if (object == nullptr || object->users == 0) return false;
  ++object->users;
  return true;
}

bool ClientObjects::unpin(const ObjectId& id, wire::TimePoint now, OpWriter& ops) {
  ClientObject* object = find(id);
  if (object == nullptr || object->users == 0) return false;
  if (--object->users > 0 || object->state == State::kCreating) return true;
  object->state = State::kIdle;
  object->idle_since = now;
  --held_;
  held_bytes_ -= object->size_bytes;
  idle_.push_back(*object);
  idle_bytes_ += object->size_bytes;
  if (object->removed) let_go(*object, ops);
  while (idle_bytes_ > limits_.max_bytes || idle_.size() > limits_.max_objects) let_go(*idle_.front(), ops);
  return true;
}

std::optional<Place> ClientObjects::ask(const ObjectId& id, OpWriter& ops) {
  if (auto place = pin_if_mapped(id)) return place;
  auto [entry, is_new] = objects_.try_emplace(id);
  ClientObject& object = entry->second;
  object.asked = true;
  if (is_new) {
    object.id = id;
    ask_store(object, ops);
  }
  return std::nullopt;
}

void ClientObjects::cancel(const ObjectId& id, OpWriter& ops) {
  ClientObject* object = find(id);
  if (object == nullptr || !object->asked) return;
  object->asked = false;
  if (object->state != State::kAsked) return;
  objects_.erase(id);
  ops.cancel_get(id);
}

ClientObjects::Outcome ClientObjects::answer(const ObjectReply& reply, OpWriter& ops) {
  ClientObject* object = find(reply.id);
  if (object != nullptr) object->store_asked = false;
  if (reply.status == ObjectStatus::kLost) {
    if (object == nullptr || object->state != State::kAsked) return Outcome::kIgnore;
    objects_.erase(reply.id);
    return Outcome::kLost;
  }
  if (object == nullptr || object->state == State::kCreating) {
    // Cancelled meanwhile; or we make a copy of our own, and whoever asked gets that.
    ops.release(reply.offset, 1);
    return Outcome::kIgnore;
  }
  if (object->state != State::kAsked) {
    if (object->offset == reply.offset) {
      ++object->store_pins;
    } else {
      ops.release(reply.offset, 1);
    }
    return Outcome::kIgnore;
  }
  object->asked = false;
  object->offset = reply.offset;
  object->size_bytes = reply.size_bytes;
  object->store_pins = 1;
  hold(*object, 1);
  return Outcome::kDeliver;
}

void ClientObjects::remove(const ObjectId& id, OpWriter& ops) {
  if (ClientObject* object = find(id)) {
    object->removed = true;
    if (object->state == State::kIdle) let_go(*object, ops);
  }
  ops.remove(id);
}

void ClientObjects::release_idle(wire::TimePoint now, bool all, OpWriter& ops) {
  while (ClientObject* oldest = idle_.front()) {
    if (!all && now - oldest->idle_since < limits_.lifetime) return;
    let_go(*oldest, ops);
  }
}

std::optional<wire::TimePoint> ClientObjects::next_idle_deadline() const {
  if (idle_.front() == nullptr) return std::nullopt;
  return idle_.front()->idle_since + limits_.lifetime;
}

std::vector<std::pair<ObjectId, std::uint64_t>> ClientObjects::in_use(std::size_t limit) const {
  std::vector<std::pair<ObjectId, std::uint64_t>> found;
  for (const auto& [id, object] : objects_) {
    if (found.size() == limit) break;
    if (object.users > 0) found.emplace_back(id, object.size_bytes);
  }
  return found;
}

void ClientObjects::hold(ClientObject& object, std::uint32_t users) {
  object.state = State::kHeld;
  object.users = users;
  ++held_;
  held_bytes_ += object.size_bytes;
}

void ClientObjects::ask_store(ClientObject& object, OpWriter& ops) const {
  object.store_asked = true;
  if (sealed_only_) {
    ops.get_sealed(object.id);
  } else {
    ops.get(object.id);
  }
}

void ClientObjects::wake_idle(ClientObject& object) {
  idle_.remove(object);
  idle_bytes_ -= object.size_bytes;
  hold(object, 0);
}

void ClientObjects::let_go(ClientObject& object, OpWriter& ops) {
  idle_.remove(object);
  idle_bytes_ -= object.size_bytes;
  ops.release(object.offset, object.store_pins);
  release_older(object, ops);
  const ObjectId id = object.id;
  objects_.erase(id);
}

}  // namespace aktis::plasma
