// free(): the value of an object is let go although references to it are left.
//
// Only the owner can do that, because everybody asks it in the end: a borrower sends it OBJECT_FREE. What
// takes the value's place is an error, which travels as any other value does. What the value contained stays
// counted until its reference goes: somebody may be reading it.
#include "core/core.h"

namespace aktis::core {

void Core::free(const ObjectId& id, Bytes error_pickle) {
  auto error = OwnedValue::make(ValueKind::kError, error_pickle, {});
  Guard guard(mutex_);
  ObjectEntry* known = find(id);
  if (known == nullptr) return;
  if (!known->owned) {
    wire::ByteWriter out;
    ObjectValueMessage message;
    message.id = id;
    message.state = RemoteState::kInline;
    message.size_bytes = error->view().size();
    message.value = error->view();
    encode_object_value(out, message);
    send(known->owner, CoreFrame::kObjectFree, out.view());
  }
  if (known->owned || known->exists()) free_now_or_later(id, *known, std::move(error));
  unlock_and_flush(guard);
}

bool Core::on_object_free(Bytes payload) {
  const auto message = decode_object_value(payload);
  if (!message || message->state != RemoteState::kInline) return false;
  const auto value = parse_value(message->value);
  if (!value || value->kind != ValueKind::kError) return false;
  ObjectEntry* known = find(message->id);
  if (known == nullptr || !known->owned) return true;  // gone already
  free_now_or_later(message->id, *known, OwnedValue::copy_of(message->value));
  return true;
}

// What does not exist yet, or is computed again, is freed when it comes.
void Core::free_now_or_later(const ObjectId& id, ObjectEntry& known,
                             std::shared_ptr<const OwnedValue> error) {
  if (known.freed || (known.exists() && known.is_error)) return;  // an error is more worth knowing
  if (!known.exists() || known.lost) {
    free_when_there_.try_emplace(id, std::move(error));
    return;
  }
  drop_value(id, known, std::move(error));
  complete(id, known);  // who waited for the store's answer gets the error
}

void Core::free_if_wanted(const ObjectId& id, ObjectEntry& known) {
  if (free_when_there_.empty()) return;
  auto wanted = free_when_there_.extract(id);
  if (wanted && known.exists() && !known.is_error) drop_value(id, known, std::move(wanted.mapped()));
}

void Core::drop_value(const ObjectId& id, ObjectEntry& known, std::shared_ptr<const OwnedValue> error) {
  if (known.state == ObjectState::kMapped) plasma_->unpin(id);
  if (known.asked_store) plasma_->cancel_request(id);
  if (known.owned && known.state != ObjectState::kInline) to_remove_.push_back(id);
  known.state = ObjectState::kInline;
  known.size_bytes = error->view().size();
  known.value = std::move(error);
  known.mapped = {};
  known.asked_store = false;
  known.is_error = known.freed = true;
}

}  // namespace aktis::core
