// What the reference table remembers: one Entry per object, a Rare part for the few objects that need it,
// and Scopes, the things under whose cover an unregistered reference may be held.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "wire/ids.h"

namespace aktis::references {

// How this process stands towards an object. The first two are for the owner, the others for everybody else.
enum class State : std::uint8_t {
  kOwned,       // we are the owner and something still counts
  kFreed,       // we are the owner, the value is freed, lineage pins keep the record
  kCovered,     // borrowed, the owner does not know; every holder of a scope in `covers` vouches for us
  kAdding,      // BORROW_ADD is under way
  kRegistered,  // the owner has acknowledged
  kOwnerDied,   // the owner is gone; counts go on, messages do not
  kLost,        // the owner no longer has the object; a new arrival starts anew, it may have been recomputed
};
inline constexpr int kStates = 7;

// The one table of allowed changes; ReferenceTable::set_state enforces it.
inline constexpr bool kAllowed[kStates][kStates] = {
    /* from            Owned  Freed  Covered Adding Registered OwnerDied Lost */
    /* kOwned      */ {false, true, false, false, false, false, false},
    /* kFreed      */ {true, false, false, false, false, false, false},
    /* kCovered    */ {false, false, false, true, false, true, false},
    /* kAdding     */ {false, false, false, false, true, true, true},
    /* kRegistered */ {false, false, false, false, false, true, false},
    /* kOwnerDied  */ {false, false, false, false, false, false, false},
    /* kLost       */ {false, false, true, false, false, false, false},
};

// Local name of a scope; never reused and never sent.
using ScopeId = std::uint64_t;

struct Scope {
  enum class Kind : std::uint8_t {
    kTask,    // a task that runs here: its caller keeps what it passed until our reply
    kObject,  // an object that we hold: its owner keeps what the value contains
    kReturn,  // a reply being taken in: the executor keeps what it returned until our RETURN_RELEASE
  };
  Kind kind;
  bool ending = false;     // its end was asked for and waits until `dependents` is empty
  bool broken = false;     // kTask: the caller died, so nobody vouches for what arrives under it
  TaskId task = {};        // kTask
  ObjectId outer = {};     // kObject
  WorkerId peer = {};      // kTask: the caller; kReturn: the executor
  std::uint64_t hold = 0;  // kReturn: the executor's name of its hold
  // The objects that rest under this cover: exactly those whose `covers` name this scope. A scope without any
  // is closed at once and opened again when needed, so that an idle table is an empty one.
  std::unordered_set<ObjectId, IdHash> dependents = {};
};

struct Rare {
  // As owner.
  std::unordered_map<WorkerId, std::uint64_t, IdHash> borrowers;  // and the generation of each one's ADD
  std::vector<ObjectId> contained;  // what the value contains; each is counted once in its entry
  std::vector<ObjectId> former;     // `contained` of a freed value; counts nothing
  // As borrower.
  WorkerId owner;                // of the object; set for every entry that is not kOwned or kFreed
  std::uint64_t generation = 0;  // of our BORROW_ADD; meaningful in kAdding and kRegistered
  std::vector<ScopeId> covers;   // only in kCovered and kAdding
  ScopeId scope = 0;             // this object as a cover of others; 0: none
};

// Counted holds of one object by this process.
struct Entry {
  std::uint32_t local = 0;         // handles
  std::uint32_t task_uses = 0;     // attempts of tasks submitted here that name it in their arguments
  std::uint32_t containers = 0;    // objects owned here whose value contains it
  std::uint32_t return_holds = 0;  // results of tasks that ran here and whose caller has not taken over yet
  std::uint32_t lineage_pins = 0;  // owned objects whose recomputation needs it; keeps the record only
  State state = State::kOwned;
  bool pinned = false;  // pickled outside Aktis: counts for ever
  std::unique_ptr<Rare> rare;

  bool held() const { return (local | task_uses | containers | return_holds) != 0 || pinned; }
  // True for the owner, whatever became of the value.
  bool owned() const { return state == State::kOwned || state == State::kFreed; }
};

// A result's references, kept by the executor until the caller has its own hold on them.
struct ReturnHold {
  WorkerId caller;
  std::vector<ObjectId> ids;
};

// Everything that must be looked at when a process dies, so that a death costs what it concerns.
struct Peer {
  std::unordered_set<ObjectId, IdHash> lent;      // owned here, borrowed by the peer
  std::unordered_set<ObjectId, IdHash> borrowed;  // owned by the peer, held here
  std::unordered_set<std::uint64_t> holds;        // return holds for the peer
  std::unordered_set<ScopeId> scopes;             // kTask and kReturn scopes that rely on the peer
  bool empty() const { return lent.empty() && borrowed.empty() && holds.empty() && scopes.empty(); }
};

}  // namespace aktis::references
