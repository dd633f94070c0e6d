// The objects of a store: by id, by owner, and in the order in which they may be evicted.
//
// Owns the Object records and keeps their slots in the object table; knows nothing of clients, and of the
// allocator only the handle that it keeps per object. Belongs to the store's thread.
//
// An id may name several records at a time: the one that get finds ("named"), and older ones that are
// deleted but still read, or duplicates made by a task that ran twice. Each has bytes of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>
#include <vector>

#include "plasma/allocator.h"
#include "plasma/intrusive_list.h"
#include "plasma/object_state.h"
#include "plasma/object_table.h"
#include "wire/ids.h"

namespace aktis::plasma {

struct OwnerAccount;

struct Object {
  ObjectId id;
  WorkerId owner;
  Block* block = nullptr;
  std::uint64_t size_bytes = 0;
  std::int64_t created_unix_ns = 0;
  std::uint32_t creator_pid = 0;
  ObjectState state = ObjectState::kFree;
  bool primary = true;
  bool named = false;
  bool doomed = false;     // deleted before it was sealed: goes as soon as it is
  std::uint32_t pins = 0;  // clients that hold it
  std::uint64_t slot = ~std::uint64_t{0};
  OwnerAccount* account = nullptr;
  Link<Object> of_owner;
  Link<Object> of_evictable;
};

struct OwnerAccount {
  WorkerId owner;
  std::uint64_t bytes = 0;
  IntrusiveList<Object, &Object::of_owner> objects;
};

struct NewObject {
  ObjectId id;
  WorkerId owner;
  Block* block = nullptr;
  std::uint64_t size_bytes = 0;
  std::uint32_t creator_pid = 0;
  bool primary = true;
};

class Catalog {
 public:
  using WallClock = std::function<std::int64_t()>;  // nanoseconds since 1970
  Catalog(ObjectTable& table, WallClock wall_clock);
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  Object* find(const ObjectId& id) const;  // the named one; may still be unsealed

  // A new record in state CREATED. It takes the name unless a sealed object has it; an unsealed one loses
  // it (whoever seals first wins). `in_table`: recorded at once, else when it is sealed.
  Object& add(const NewObject& spec, bool in_table);
  // A record of a store that ran before.
  Object& adopt(std::uint64_t slot_index, const Slot& slot, Block* block);

  void seal(Object& object);
  void pin(Object& object);
  void unpin(Object& object);
  // Nobody may find it any more. An object nobody holds can be erased at once: see is_garbage().
  void condemn(Object& object);
  void abort(Object& object);
  static bool is_garbage(const Object& object) {
    return object.pins == 0 &&
           (object.state == ObjectState::kDeleted || object.state == ObjectState::kAborted);
  }
  // Forgets the record; returns its range, which the caller gives back.
  Block* erase(Object& object);

  // Least recently used of those sealed, unpinned and not primary; null when there is none.
  Object* eviction_candidate() const { return evictable_.front(); }
  std::uint64_t evictable_bytes() const { return evictable_bytes_; }

  OwnerAccount* account(const WorkerId& owner);
  const std::unordered_map<WorkerId, OwnerAccount, IdHash>& accounts() const { return accounts_; }

  struct Totals {
    std::uint64_t created_bytes = 0, created = 0;  // being written, counted when recorded in the table
    std::uint64_t sealed_bytes = 0, sealed = 0;
    std::uint64_t deleted_bytes = 0, deleted = 0;  // waiting for their readers
    std::uint64_t pinned_bytes = 0, pinned = 0;
  };
  const Totals& totals() const { return totals_; }

  // At most `limit` records, in no particular order.
  std::vector<const Object*> list(std::size_t limit) const;

  const char* validate() const;  // empty when every invariant holds; O(n), for tests

 private:
  void move_to(Object& object, ObjectState state);
  void count(const Object& object, bool add);
  void count_pinned(const Object& object, bool add);
  void update_evictable(Object& object);
  void take_name(Object& object);
  void drop_name(Object& object);
  void link_owner(Object& object);
  void record(Object& object);
  Object& make();

  ObjectTable& table_;
  const WallClock wall_clock_;
  std::deque<Object> objects_;  // stable addresses; state kFree: unused
  std::vector<Object*> spare_;
  std::unordered_map<ObjectId, Object*, IdHash> names_;
  std::unordered_map<WorkerId, OwnerAccount, IdHash> accounts_;
  IntrusiveList<Object, &Object::of_evictable> evictable_;
  std::uint64_t evictable_bytes_ = 0;
  Totals totals_;
};

}  // namespace aktis::plasma
