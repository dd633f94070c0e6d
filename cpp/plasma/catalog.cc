#include "plasma/catalog.h"

#include <cassert>

namespace aktis::plasma {
namespace {

constexpr std::uint64_t kNoSlot = ~std::uint64_t{0};

Slot slot_of(const Object& object) {
  Slot slot;
  slot.state = object.state;
  slot.flags = object.primary ? kSlotPrimary : 0;
  slot.creator_pid = object.creator_pid;
  slot.offset = object.block->offset;
  slot.size_bytes = object.size_bytes;
  slot.created_unix_ns = object.created_unix_ns;
  slot.id = object.id;
  slot.owner = object.owner;
  return slot;
}

}  // namespace

Catalog::Catalog(ObjectTable& table, WallClock wall_clock)
    : table_(table), wall_clock_(std::move(wall_clock)) {}

Object* Catalog::find(const ObjectId& id) const {
  auto found = names_.find(id);
  return found == names_.end() ? nullptr : found->second;
}

Object& Catalog::add(const NewObject& spec, bool in_table) {
  Object& object = make();
  object.id = spec.id;
  object.owner = spec.owner;
  object.block = spec.block;
  object.size_bytes = spec.size_bytes;
  object.creator_pid = spec.creator_pid;
  object.primary = spec.primary;
  object.created_unix_ns = wall_clock_();
  move_to(object, ObjectState::kCreated);
  take_name(object);
  link_owner(object);
  if (in_table) record(object);
  return object;
}

Object& Catalog::adopt(std::uint64_t slot_index, const Slot& slot, Block* block) {
  Object& object = make();
  object.id = slot.id;
  object.owner = slot.owner;
  object.block = block;
  object.size_bytes = slot.size_bytes;
  object.creator_pid = slot.creator_pid;
  object.primary = (slot.flags & kSlotPrimary) != 0;
  object.created_unix_ns = slot.created_unix_ns;
  object.slot = slot_index;
  object.state = slot.state;
  count(object, true);
  if (object.state == ObjectState::kSealed) take_name(object);
  link_owner(object);
  update_evictable(object);
  return object;
}

void Catalog::seal(Object& object) {
  move_to(object, ObjectState::kSealed);
  record(object);
  update_evictable(object);
  if (object.doomed || !object.named) condemn(object);
}

void Catalog::pin(Object& object) {
  if (object.pins++ == 0) count_pinned(object, true);
  update_evictable(object);
}

void Catalog::unpin(Object& object) {
  assert(object.pins > 0);
  if (--object.pins == 0) count_pinned(object, false);
  update_evictable(object);
}

void Catalog::condemn(Object& object) {
  drop_name(object);
  if (object.state == ObjectState::kCreated) {
    object.doomed = true;
  } else if (object.state != ObjectState::kDeleted) {
    move_to(object, ObjectState::kDeleted);
    // A record that goes at once is not worth a write: erase() clears its slot.
    if (object.pins > 0) record(object);
  }
  update_evictable(object);
}

void Catalog::abort(Object& object) {
  drop_name(object);
  move_to(object, ObjectState::kAborted);
}

Block* Catalog::erase(Object& object) {
  assert(is_garbage(object));
  drop_name(object);
  count(object, false);
  object.account->bytes -= object.block->size;
  object.account->objects.remove(object);
  if (object.account->objects.size() == 0) accounts_.erase(object.owner);
  if (object.slot != kNoSlot) table_.erase(object.slot);
  Block* block = object.block;
  object = Object{};
  spare_.push_back(&object);
  return block;
}

OwnerAccount* Catalog::account(const WorkerId& owner) {
  auto found = accounts_.find(owner);
  return found == accounts_.end() ? nullptr : &found->second;
}

std::vector<const Object*> Catalog::list(std::size_t limit) const {
  std::vector<const Object*> found;
  for (const Object& object : objects_) {
    if (found.size() >= limit) break;
    if (object.state != ObjectState::kFree) found.push_back(&object);
  }
  return found;
}

Object& Catalog::make() {
  if (spare_.empty()) return objects_.emplace_back();
  Object& object = *spare_.back();
  spare_.pop_back();
  return object;
}

// The one place that changes a state.
void Catalog::move_to(Object& object, ObjectState state) {
  assert(may_follow(object.state, state));
  if (object.state != ObjectState::kFree) count(object, false);
  object.state = state;
  count(object, true);
}

void Catalog::count(const Object& object, bool add) {
  const std::uint64_t sign = add ? 1 : ~std::uint64_t{0};  // unsigned wrap: plus or minus one
  const std::uint64_t bytes = object.block->size * sign;
  switch (object.state) {
    case ObjectState::kCreated:
      totals_.created += sign;
      totals_.created_bytes += bytes;
      break;
    case ObjectState::kDeleted:
    case ObjectState::kAborted:
      totals_.deleted += sign;
      totals_.deleted_bytes += bytes;
      break;
    default:
      totals_.sealed += sign;
      totals_.sealed_bytes += bytes;
  }
}

void Catalog::count_pinned(const Object& object, bool add) {
  const std::uint64_t sign = add ? 1 : ~std::uint64_t{0};
  totals_.pinned += sign;
  totals_.pinned_bytes += object.block->size * sign;
}

void Catalog::update_evictable(Object& object) {
  const bool evictable = object.state == ObjectState::kSealed && object.pins == 0 && !object.primary;
  if (evictable == object.of_evictable.linked) return;
  if (evictable) {
    evictable_.push_back(object);
    evictable_bytes_ += object.block->size;
  } else {
    evictable_.remove(object);
    evictable_bytes_ -= object.block->size;
  }
}

void Catalog::take_name(Object& object) {
  auto [place, is_new] = names_.try_emplace(object.id, &object);
  if (is_new) {
    object.named = true;
    return;
  }
  Object& holder = *place->second;
  if (holder.state != ObjectState::kCreated) return;
  holder.named = false;
  holder.doomed = true;
  place->second = &object;
  object.named = true;
}

void Catalog::drop_name(Object& object) {
  if (!object.named) return;
  names_.erase(object.id);
  object.named = false;
}

void Catalog::link_owner(Object& object) {
  OwnerAccount& account = accounts_[object.owner];
  account.owner = object.owner;
  account.bytes += object.block->size;
  account.objects.push_back(object);
  object.account = &account;
}

void Catalog::record(Object& object) {
  if (object.slot == kNoSlot) {
    object.slot = table_.insert(slot_of(object));
  } else {
    table_.update(object.slot, slot_of(object));
  }
}

const char* Catalog::validate() const {
  Totals sums;
  std::uint64_t evictable_bytes = 0, named = 0, in_accounts = 0, live = 0, recorded = 0;
  for (const Object& object : objects_) {
    if (object.state == ObjectState::kFree) continue;
    ++live;
    const std::uint64_t bytes = object.block->size;
    if (object.block->is_free) return "object on a free range";
    if (bytes != footprint(object.size_bytes)) return "range does not fit the object";
    if (object.named != (find(object.id) == &object)) return "named flag and index disagree";
    if (is_garbage(object)) return "garbage left behind";
    named += object.named;
    recorded += object.slot != kNoSlot;
    sums.pinned += object.pins > 0;
    sums.pinned_bytes += object.pins > 0 ? bytes : 0;
    if (object.of_evictable.linked) evictable_bytes += bytes;
    if (object.slot != kNoSlot && table_.at(object.slot).id != object.id) return "slot holds another object";
    if (object.slot != kNoSlot && table_.at(object.slot).state != object.state)
      return "slot has another state";
  }
  for (const auto& [owner, account] : accounts_) in_accounts += account.objects.size();
  if (named != names_.size()) return "names of objects that are gone";
  if (in_accounts != live) return "accounts do not cover the objects";
  if (recorded != table_.used_slots()) return "slots and records differ";
  if (evictable_bytes != evictable_bytes_) return "wrong evictable bytes";
  if (sums.pinned != totals_.pinned || sums.pinned_bytes != totals_.pinned_bytes)
    return "wrong pinned totals";
  if (live != totals_.created + totals_.sealed + totals_.deleted) return "wrong totals";
  return "";
}

}  // namespace aktis::plasma
