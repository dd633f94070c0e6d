// The reference table's surroundings: batched drops, its actions, its messages (rules: core/references.h).
#include "core/core.h"

namespace aktis::core {

void Core::drop_reference(const ObjectId& id) {
  if (reactor_.in_forked_child()) return;  // the counts are the parent's, and a lock may be held for ever
  bool first;
  {
    std::lock_guard guard(drops_mutex_);
    first = drops_.empty();
    drops_.push_back(id);
  }
  // Costs a system call only while another thread sleeps in the poller; else the next poll drains them.
  if (first && !closed_) reactor_.interrupt();
}

void Core::drain_drops() {
  std::vector<ObjectId> dropped;
  {
    std::lock_guard guard(drops_mutex_);
    if (drops_.empty()) return;
    dropped.swap(drops_);
  }
  references_.remove_local(dropped);
  settle_references();
}

void Core::add_local(const ObjectId& id) {
  Guard guard(mutex_);
  references_.add_local(id);
}

void Core::adopt_reference(const RefId& ref, const Cover& cover) {
  Guard guard(mutex_);
  references_.add_borrowed(ref.id, ref.owner, cover);
  ObjectEntry& known = objects_[ref.id];
  if (ref.owner != config_.worker && known.owner.is_nil()) {
    known.owned = false;
    known.owner = ref.owner;
    known.node = ref.node;
  }
  settle_references();
  unlock_and_flush(guard);
}

void Core::pin_forever(const ObjectId& id) {
  Guard guard(mutex_);
  references_.pin_forever(id);
}

// A record that goes lets others go, and so on: by this loop, as the chain may be long. What an action brings
// about is left to it too, because messages to one peer must leave in the order of the actions.
void Core::settle_references() {
  if (settling_) return;
  settling_ = true;
  std::vector<ReferenceAction> actions;
  do {
    references_.take_actions(actions);
    while (!actions.empty()) {
      carry_out(actions);
      references_.take_actions(actions);
    }
  } while (lineage_.evict_one());
  settling_ = false;
}

void Core::carry_out(const std::vector<ReferenceAction>& actions) {
  using Kind = ReferenceAction::Kind;
  for (const ReferenceAction& action : actions) {
    wire::ByteWriter out;
    switch (action.kind) {
      case Kind::kSendBorrowAdd:
        encode_borrow(out, action.object, action.generation);
        send(action.peer, CoreFrame::kBorrowAdd, out.view());
        break;
      case Kind::kSendBorrowAck:
        encode_borrow(out, action.object, action.generation);
        send(action.peer, CoreFrame::kBorrowAck, out.view());
        break;
      case Kind::kSendBorrowNack:
        encode_borrow(out, action.object, action.generation);
        send(action.peer, CoreFrame::kBorrowNack, out.view());
        break;
      case Kind::kSendBorrowRemove:
        encode_borrow(out, action.object, action.generation);
        send(action.peer, CoreFrame::kBorrowRemove, out.view(), false);
        break;
      case Kind::kSendReturnRelease:
        encode_return_release(out, action.generation);
        send(action.peer, CoreFrame::kReturnRelease, out.view(), false);
        break;
      case Kind::kFreeObject:
        if (action.lineage_kept) {
          keep_value(action.object);
          forget(action.object);
        } else {
          forget(action.object);
          object_gone(action.object);
        }
        break;
      case Kind::kLineageDroppable:
        object_gone(action.object);
        break;
      case Kind::kReleaseBorrowed:
        forget(action.object);
        break;
      case Kind::kObjectOwnerDied:
        events_.push({.kind = EventKind::kObjectLost, .first = action.object.binary(), .text = "owner died"});
        break;
      case Kind::kObjectLost:
        if (references_.is_owned(action.object)) {
          come_back(action.object);
          break;
        }
        events_.push(
            {.kind = EventKind::kObjectLost, .first = action.object.binary(), .text = "freed by its owner"});
        break;
      case Kind::kTaskEndable:
        if (auto held = held_replies_.extract(action.task)) {
          send_reply(held.mapped().task, held.mapped().bytes);
          urgent_ = true;
        }
        break;
    }
  }
}

bool Core::on_reference_frame(CoreFrame type, const WorkerId& from, Bytes payload) {
  if (type == CoreFrame::kReturnRelease) {
    const auto message = decode_return_release(payload);
    if (!message) return false;
    references_.on_return_release(from, message->hold);
  } else {
    const auto message = decode_borrow(payload);
    if (!message) return false;
    if (type == CoreFrame::kBorrowAdd) references_.on_borrow_add(from, message->id, message->generation);
    if (type == CoreFrame::kBorrowAck) references_.on_borrow_ack(from, message->id, message->generation);
    if (type == CoreFrame::kBorrowNack) references_.on_borrow_nack(from, message->id, message->generation);
    if (type == CoreFrame::kBorrowRemove)
      references_.on_borrow_remove(from, message->id, message->generation);
  }
  settle_references();
  return true;
}

std::vector<std::pair<ObjectId, ReferenceCounts>> Core::references(std::size_t limit) {
  Guard guard(mutex_);
  drain_drops();
  std::vector<std::pair<ObjectId, ReferenceCounts>> all;
  for (const ObjectId& id : references_.ids()) {
    if (all.size() == limit) break;
    all.emplace_back(id, references_.counts(id));
  }
  unlock_and_flush(guard);
  return all;
}

}  // namespace aktis::core
