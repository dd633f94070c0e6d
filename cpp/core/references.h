// Distributed reference counting: who holds which object, and when its owner may free it.
//
// Every object has one owner, the process that created the reference. Others that hold it are borrowers.
// The table is a pure state machine: events in (the methods), actions out (take_actions). It does no I/O,
// has no clock and no lock; the core holds one mutex around it. It is proven by a simulated network in
// cpp/tests/references_simulation_test.cc, which kills processes and interleaves messages as it likes.
//
// Assumptions about the world
//   A1  Messages from one process to another arrive in order or, once the connection is lost, not at all.
//       Nothing is assumed about messages between different pairs.
//   A2  When a process dies, every process that talks to it is told once (on_process_lost), after what the
//       dead one still managed to send. A WorkerId is never used again.
//   A3  An object's value never changes, so what it contains is known when it is made.
//
// Invariants
//   I1  Safety. An object is freed only when its owner counts nothing and no borrower is registered, and
//       every reference held anywhere is counted by the owner, registered with the owner, or covered.
//   I2  A cover is a process that counts the object for us and will go on until we say so: the caller of
//       the task that passed it (until our reply), the owner of an object that contains it (while we hold
//       that object), the executor that returned it (until RETURN_RELEASE).
//   I3  When a cover ends and the reference is still held, this process registers (BORROW_ADD) with the
//       owner *before* it lets the cover go: the reply, the release of the outer object or RETURN_RELEASE
//       waits for BORROW_ACK. So the ADD finds the object counted by the cover: there is no window.
//   I4  Liveness. Nothing waits but for an acknowledgement of a live owner; a dead owner answers through
//       on_process_lost. So all that is dropped is freed once the messages are drained.
//
// Why each rule is needed, and the race that it closes
//   R1  Local counts: handles, tasks in flight that use the object (one use per *attempt*: a retried or
//       speculated task may still run elsewhere under the first attempt's cover), owned objects whose
//       value contains it. A drop of the last handle must not outrun the task that was just submitted.
//   R2  Covers: the common reference (an argument, used and dropped) costs no message. Registration starts
//       at the end of the *first* cover even if another is still there: the other could die with its
//       process and would leave us with nothing, and after one registration no later cover costs anything.
//   R3  BORROW_REMOVE when the last hold goes. A generation per registration makes a late REMOVE, ACK or
//       NACK harmless for a newer registration of the same pair (drop and borrow again while the first
//       ADD is under way).
//   R4  Return holds: between the executor's reply and the caller's registration nobody else may count
//       what was returned; the executor does, until the caller is registered or dead.
//   R5  Freeing an object drops what it contains, by a work list: a linked list of a million references
//       must not overflow the stack.
//   R6  Death: an owner forgets the dead borrower and what it held for the dead caller; a borrower's
//       object becomes OwnerDied. When a *cover* dies, what rested under it registers at once; if its
//       owner has freed it in between, the answer is NACK and the reference is lost (R8), which is the
//       meaning of "the process that kept it for us died".
//   R7  pin_forever: a reference pickled outside Aktis is out of sight, so it counts until the process ends.
//   R8  BORROW_NACK instead of a crash or a silent success when the owner no longer has the object. If the
//       reference arrives once more (the owner has recomputed the object since), it starts anew as covered.
//   R9  Contained references are never un-counted while the outer object lives, even when it is computed
//       again with other contents: a borrower may hold a reference read from the first value, covered by
//       the outer object only.
//   R10 A cover by an outer object of *another owner* lasts only as long as the outer object itself is
//       under a running task; once the outer is kept for longer, the inner registers too. Else the death
//       of the outer's owner would cost a live process a reference to an object whose owner lives.
//
// Not covered: cycles (an object that contains, through others, itself) are kept until an owner dies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/reference_records.h"
#include "wire/ids.h"

namespace aktis {

// Under whose protection a reference reached this process.
struct Cover {
  enum class Kind : std::uint8_t { kNone, kTask, kObject };
  Kind kind = Kind::kNone;
  TaskId task;      // kTask
  WorkerId caller;  // kTask: who keeps the argument until we reply to it
  ObjectId outer;   // kObject

  // Nobody protects it (loaded from a plain pickle): register at once, hope for the best.
  static Cover none() { return {}; }
  // It was among the arguments of `task`, which runs here for `caller`.
  static Cover by_task(const TaskId& task, const WorkerId& caller) { return {Kind::kTask, task, caller, {}}; }
  // It was in the value of `outer`, which is held here while it is deserialized.
  static Cover by_object(const ObjectId& outer) { return {Kind::kObject, {}, {}, outer}; }
};

// One reference inside a task's result, as the caller reads it from the reply.
struct ReturnedRef {
  ObjectId outer;  // the result that contains it, owned by the caller
  ObjectId inner;
  WorkerId inner_owner;
};

struct ReferenceAction {
  enum class Kind : std::uint8_t {
    // Messages to `peer`.
    kSendBorrowAdd,      // object, generation
    kSendBorrowAck,      // object, generation
    kSendBorrowNack,     // object, generation
    kSendBorrowRemove,   // object, generation
    kSendReturnRelease,  // generation: the hold's number from the reply
    // For this process's core.
    kFreeObject,        // owner: free the value everywhere; `lineage_kept` tells whether its record stays
    kLineageDroppable,  // owner: a freed object's lineage record is not needed any more
    kReleaseBorrowed,   // borrower: nothing here holds it; drop the value and its location
    kObjectOwnerDied,   // borrower: fail it with OwnerDiedError (peer: the owner)
    kObjectLost,        // its owner has freed it although it is held here: fail it with ObjectLostError
    kTaskEndable,       // task: end_task() said "not yet"; now send its reply
  };
  Kind kind;
  bool lineage_kept = false;
  WorkerId peer;
  ObjectId object;
  std::uint64_t generation = 0;
  TaskId task;
};

// For statistics and `aktis memory`.
struct ReferenceCounts {
  references::State state = references::State::kOwned;
  std::uint32_t local = 0;
  std::uint32_t task_uses = 0;
  std::uint32_t containers = 0;
  std::uint32_t return_holds = 0;
  std::uint32_t lineage_pins = 0;
  std::uint32_t borrowers = 0;
  bool pinned = false;  // pickled outside Aktis
  WorkerId owner;
};

// Misuse (an unknown id, a count below zero) throws std::logic_error with the id and the count: it is a bug
// in the caller and going on would free somebody's object. What peers send can not make any method throw.
class ReferenceTable {
 public:
  explicit ReferenceTable(const WorkerId& self);
  ReferenceTable(const ReferenceTable&) = delete;
  ReferenceTable& operator=(const ReferenceTable&) = delete;

  // --- Handles -------------------------------------------------------------------------------------------
  // A new object of ours, with `local_handles` >= 1 handles.
  void add_owned(const ObjectId& id, std::uint32_t local_handles = 1);
  // One more handle on an object that is in the table (a copied ObjectRef).
  void add_local(const ObjectId& id);
  void remove_local(const ObjectId& id);
  // Handles dropped in a batch, in any order; an outer and its inners together cost no registration.
  void remove_local(std::span<const ObjectId> ids);
  // A handle deserialized here: counts one local handle, of whoever's object (also our own come back).
  void add_borrowed(const ObjectId& id, const WorkerId& owner, const Cover& cover);
  // A handle that never goes: the reference was pickled outside Aktis.
  void pin_forever(const ObjectId& id);

  // --- Submitted tasks -----------------------------------------------------------------------------------
  // One use per attempt that is pushed to a worker, for each reference in its arguments, top-level or
  // nested. Ends when that attempt is answered (reply, given back unstarted) or its worker is lost.
  // When a reply carries references: adopt_return() first, then remove_task_use().
  void add_task_use(const ObjectId& id);
  void remove_task_use(const ObjectId& id);
  void remove_task_use(std::span<const ObjectId> ids);
  // Owned objects needed to compute another one again (core/lineage.h). Keeps the record, not the value.
  void add_lineage_pin(const ObjectId& id);
  void remove_lineage_pin(const ObjectId& id);

  // --- Values that contain references --------------------------------------------------------------------
  // The value of `outer` (owned here) contains `inners`, all of them in the table. Adds to what it contains.
  void set_contained(const ObjectId& outer, std::span<const ObjectId> inners);
  // The value of `outer` (owned here) is that of `source`: an error that a task took over from an argument.
  // What a borrowed source contains is not known here, so that `outer` keeps the source itself. Nothing
  // happens when nobody wants `outer` any more.
  void take_contents(const ObjectId& outer, const ObjectId& source);

  // --- Executing tasks -----------------------------------------------------------------------------------
  // The task has returned and its handles are dropped (flush queued remove_local first). True: send the reply
  // now. False: references that it keeps are being registered; kTaskEndable(task) will come. A task that
  // received no reference needs no call but may have one.
  bool end_task(const TaskId& task);
  // Keeps the references in a result for `caller`; before end_task(). Returns the hold's number for the
  // reply, 0 when there is nothing to hold. One call for each result or generator item, or one for all.
  std::uint64_t hold_return(const WorkerId& caller, std::span<const ObjectId> ids);
  // The caller's side: takes over the references in a reply from `executor`, then lets its hold go. Results
  // that nobody wants any more are skipped. Also for replies that are ignored (a cancelled task, the loser of
  // a speculation), with empty `refs`, else the executor would hold for ever.
  void adopt_return(const WorkerId& executor, std::uint64_t hold, std::span<const ReturnedRef> refs);

  // --- From the network ----------------------------------------------------------------------------------
  void on_borrow_add(const WorkerId& from, const ObjectId& id, std::uint64_t generation);
  void on_borrow_ack(const WorkerId& from, const ObjectId& id, std::uint64_t generation);
  void on_borrow_nack(const WorkerId& from, const ObjectId& id, std::uint64_t generation);
  void on_borrow_remove(const WorkerId& from, const ObjectId& id, std::uint64_t generation);
  void on_return_release(const WorkerId& from, std::uint64_t hold);
  // Final: what comes from `worker` afterwards is refused.
  void on_process_lost(const WorkerId& worker);

  // --- Results and questions -----------------------------------------------------------------------------
  // What is to be done since the last call, in order; messages to one peer must be sent in this order.
  std::vector<ReferenceAction> take_actions();
  // The same without allocating: `actions` is cleared and exchanged for the filled vector.
  void take_actions(std::vector<ReferenceAction>& actions);

  bool contains(const ObjectId& id) const { return entries_.contains(id); }
  bool is_owned(const ObjectId& id) const;
  // Owned, its value freed, its record pinned by lineage.
  bool is_freed(const ObjectId& id) const;
  // What the value of an owned object contains, as far as it is counted; valid until the next event.
  std::span<const ObjectId> contained(const ObjectId& outer) const;
  // What was counted when the value was last freed with its record kept: for who has kept the value too.
  std::vector<ObjectId> formerly_contained(const ObjectId& outer) const;
  // The owner; nil when the id is not in the table.
  WorkerId owner_of(const ObjectId& id) const;
  // All zero when the id is not in the table.
  ReferenceCounts counts(const ObjectId& id) const;
  std::vector<ObjectId> ids() const;
  std::size_t size() const { return entries_.size(); }
  // Nothing is remembered of any object, task, hold or living peer.
  bool idle() const;
  // Checks every invariant of the records; throws std::logic_error that names the first broken one. O(size).
  void validate() const;

 private:
  using Entry = references::Entry;
  using Rare = references::Rare;
  using Scope = references::Scope;
  using ScopeId = references::ScopeId;
  using State = references::State;
  using Map = std::unordered_map<ObjectId, Entry, IdHash>;

  // Every verb ends with settle(), which works off dirty objects (maybe not held any more) and dirty scopes
  // (maybe without dependents) until nothing changes; nothing recurses.
  void settle();
  void settle_object(const ObjectId& id);
  void settle_scope(ScopeId id);

  // references.cc: counts, and what the owner does.
  static Rare& rare(Entry& entry);
  Entry& at(const ObjectId& id, const char* verb);
  std::pair<Map::iterator, bool> insert(const ObjectId& id);
  void erase(Map::iterator position);
  void set_state(const ObjectId& id, Entry& entry, State state);
  void increment(std::uint32_t Entry::* count, const ObjectId& id, Entry& entry);
  void revive(const ObjectId& id, Entry& entry);
  void decrement(std::uint32_t Entry::* count, const ObjectId& id, const char* verb);
  void free_owned(Map::iterator position);
  void drop_hold(std::uint64_t hold);
  void release_hold(const WorkerId& caller, std::uint64_t hold);
  void emit(ReferenceAction::Kind kind, const ObjectId& object, const WorkerId& peer = {},
            std::uint64_t generation = 0);

  // references_borrow.cc: what a borrower does.
  Entry& borrowed_entry(const ObjectId& id, const WorkerId& owner);
  void adopt_one(const ReturnedRef& ref, ScopeId scope);
  void apply(const Cover& cover, const ObjectId& id, Entry& entry);
  bool cover_by_object(const ObjectId& id, Entry& entry, const ObjectId& outer);
  bool kept_by_task_only(const Entry& entry) const;
  void start_registration(const ObjectId& id, Entry& entry);
  void finish_registration(const WorkerId& from, const ObjectId& id, std::uint64_t generation, State state);
  void register_foreign_dependents(Entry& outer);
  void release_borrowed(Map::iterator position);

  // references_scope.cc: covers.
  ScopeId open_scope(Scope scope);
  ScopeId task_scope(const TaskId& task, const WorkerId& caller);
  ScopeId object_scope(const ObjectId& outer, Entry& entry);
  void attach(const ObjectId& id, Entry& entry, ScopeId scope);
  void detach_all(const ObjectId& id, Entry& entry);
  void end_scope(Scope& scope);
  void register_dependents(const Scope& scope);
  void dissolve_scope(ScopeId id);
  void void_cover(const ObjectId& outer, Entry& entry);
  void close_scope(ScopeId id);

  // references_validate.cc
  void validate_borrowed(const ObjectId& id, const Entry& entry) const;
  void validate_scopes() const;
  void validate_peers() const;

  // references_peers.cc: life and death of processes.
  void lose_owner(const std::unordered_set<ObjectId, IdHash>& borrowed);
  void lose_guard(ScopeId id);
  void remember_lost(const WorkerId& worker);
  bool is_lost(const WorkerId& worker) const { return lost_.contains(worker); }
  template <typename Set, typename Key>
  void forget(Set references::Peer::* set, const WorkerId& worker, const Key& key);

  const WorkerId self_;
  Map entries_;
  std::vector<Map::node_type> spare_nodes_;  // bounded; the common object is made and freed without malloc
  std::unordered_map<ScopeId, Scope> scopes_;
  std::unordered_map<TaskId, ScopeId, IdHash> task_scopes_;
  std::unordered_map<std::uint64_t, references::ReturnHold> holds_;
  std::unordered_map<WorkerId, references::Peer, IdHash> peers_;
  std::unordered_set<WorkerId, IdHash> lost_;  // recently lost processes, bounded, oldest forgotten first
  std::deque<WorkerId> lost_order_;
  std::uint64_t next_number_ = 1;  // of scopes, holds and generations
  std::vector<ObjectId> dirty_objects_;
  std::vector<ScopeId> dirty_scopes_;
  std::vector<ReferenceAction> actions_;
};

// Keeps the index of peers free of processes with which there is nothing to do.
template <typename Set, typename Key>
void ReferenceTable::forget(Set references::Peer::* set, const WorkerId& worker, const Key& key) {
  const auto position = peers_.find(worker);
  if (position == peers_.end()) return;
  (position->second.*set).erase(key);
  if (position->second.empty()) peers_.erase(position);
}

}  // namespace aktis
