// The life of an object in a store, and the only table that says which steps are allowed.
#pragma once

#include <cassert>
#include <cstdint>
#include <string_view>

namespace aktis::plasma {

// The values are part of the object table's format: never renumber.
enum class ObjectState : std::uint8_t {
  kFree = 0,       // a slot without an object
  kCreated = 1,    // its creator writes it
  kSealed = 2,     // immutable, readable
  kSpilling = 3,   // readable, a copy is being written to disk
  kSpilled = 4,    // on disk only
  kRestoring = 5,  // being read back
  kDeleted = 6,    // nobody can get it any more; its bytes stay until the last reader lets go
  kAborted = 7,    // given up before it was sealed
};
inline constexpr std::uint8_t kObjectStateCount = 8;

constexpr std::uint32_t states(std::initializer_list<ObjectState> list) {
  std::uint32_t bits = 0;
  for (auto state : list) bits |= 1u << static_cast<unsigned>(state);
  return bits;
}

// kTransitions[from]: the states that may follow.
inline constexpr std::uint32_t kTransitions[kObjectStateCount] = {
    /* free      */ states({ObjectState::kCreated}),
    /* created   */ states({ObjectState::kSealed, ObjectState::kAborted}),
    /* sealed    */ states({ObjectState::kSpilling, ObjectState::kDeleted}),
    /* spilling  */ states({ObjectState::kSpilled, ObjectState::kSealed, ObjectState::kDeleted}),
    /* spilled   */ states({ObjectState::kRestoring, ObjectState::kDeleted}),
    /* restoring */ states({ObjectState::kSealed, ObjectState::kSpilled, ObjectState::kDeleted}),
    /* deleted   */ states({ObjectState::kFree}),
    /* aborted   */ states({ObjectState::kFree}),
};

constexpr bool may_follow(ObjectState from, ObjectState to) {
  return (kTransitions[static_cast<unsigned>(from)] >> static_cast<unsigned>(to) & 1u) != 0;
}

constexpr std::string_view name(ObjectState state) {
  constexpr std::string_view kNames[kObjectStateCount] = {"FREE",    "CREATED",   "SEALED",  "SPILLING",
                                                          "SPILLED", "RESTORING", "DELETED", "ABORTED"};
  return kNames[static_cast<unsigned>(state)];
}

}  // namespace aktis::plasma
