// The objects that a client is making, reads or waits for.
//
// A pure state machine per object; messages for the store are appended to the OpWriter given. Guarded by
// the client's lock.
//
//   (none) -> ASKED -> HELD -> IDLE -> (none)        asked for; there, with users; there, without
//   (none) or ASKED -> CREATING -> HELD              made here; whoever had asked is served by our own seal
//   HELD -> CREATING -> HELD                         the store has lost what is read here; it is made again
//
// IDLE keeps the store's pin for a moment, so that a repeated get makes no system call; it is bounded in
// bytes, number and time, and given up when the store asks.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "plasma/intrusive_list.h"
#include "plasma/protocol.h"
#include "plasma/slab_cutter.h"
#include "wire/reactor.h"

namespace aktis::plasma {

enum class ClientObjectState : std::uint8_t { kAsked, kCreating, kHeld, kIdle };

struct Place {
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
};

struct ClientObject {
  // Bytes of the object that the store has lost since; users may still read them.
  struct Older {
    Place place;
    std::uint32_t store_pins = 0;
  };
  ObjectId id;
  WorkerId owner;
  ClientObjectState state = ClientObjectState::kAsked;
  bool asked = false;        // somebody here waits for it
  bool store_asked = false;  // the store owes an answer
  bool removed = false;      // its owner dropped it: not worth keeping idle
  bool primary = true;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::uint32_t users = 0;       // pins handed out here
  std::uint32_t store_pins = 0;  // pins that the store counts for us
  std::vector<Older> older;      // kept until the last user goes: nobody knows who reads which
  std::optional<SlabCutter::Cut> cut;
  wire::TimePoint idle_since{};
  Link<ClientObject> of_idle;
};

class ClientObjects {
 public:
  struct IdleLimits {
    std::uint64_t max_bytes = 64u << 20;
    std::size_t max_objects = 4096;
    wire::Clock::duration lifetime{std::chrono::milliseconds(200)};
  };
  // `sealed_only`: nobody here asks for an object before it has been sealed, so one that is missing is lost.
  explicit ClientObjects(IdleLimits limits, bool sealed_only = false)
      : limits_(limits), sealed_only_(sealed_only) {}

  // Whether an object of this id can be created. kAskStore: it is held here, or was idle and has been given
  // up; only the store knows whether it has been deleted or lost meanwhile.
  enum class MayCreate { kYes, kAskStore, kExists };
  MayCreate may_create(const ObjectId& id, OpWriter& ops);
  void created(const ObjectId& id, const WorkerId& owner, Place place, std::optional<SlabCutter::Cut> cut,
               bool primary);
  struct Sealed {
    SealOp op;
    std::optional<SlabCutter::Cut> cut;
    bool wanted = false;  // deliver it: one more pin was taken for the request
  };
  // One pin for the caller. Throws std::logic_error when the object is not being created.
  Sealed seal(const ObjectId& id);
  // Where the object was; the caller gives the place back.
  struct Aborted {
    Place place;
    std::optional<SlabCutter::Cut> cut;
    std::optional<Place> wanted;  // deliver what was there before: one more pin was taken for the request
  };
  Aborted abort(const ObjectId& id, OpWriter& ops);

  std::optional<Place> pin_if_mapped(const ObjectId& id);
  // False when the object is not held.
  bool pin(const ObjectId& id);
  bool unpin(const ObjectId& id, wire::TimePoint now, OpWriter& ops);

  // A pin and the place when it is here; else the store is asked, once.
  std::optional<Place> ask(const ObjectId& id, OpWriter& ops);
  void cancel(const ObjectId& id, OpWriter& ops);
  enum class Outcome { kDeliver, kLost, kIgnore };
  Outcome answer(const ObjectReply& reply, OpWriter& ops);

  void remove(const ObjectId& id, OpWriter& ops);

  // Gives up idle objects: those whose time is over, or all.
  void release_idle(wire::TimePoint now, bool all, OpWriter& ops);
  std::optional<wire::TimePoint> next_idle_deadline() const;

  std::uint64_t held() const { return held_; }
  std::vector<std::pair<ObjectId, std::uint64_t>> in_use(std::size_t limit) const;
  std::uint64_t held_bytes() const { return held_bytes_; }

 private:
  ClientObject* find(const ObjectId& id);
  void hold(ClientObject& object, std::uint32_t users);
  void let_go(ClientObject& object, OpWriter& ops);  // IDLE -> (none)
  void wake_idle(ClientObject& object);
  void supersede(ClientObject& object);
  Aborted restore(ClientObject& object, Aborted aborted);
  void release_older(ClientObject& object, OpWriter& ops);
  void ask_store(ClientObject& object, OpWriter& ops) const;

  const IdleLimits limits_;
  const bool sealed_only_;
  std::unordered_map<ObjectId, ClientObject, IdHash> objects_;
  IntrusiveList<ClientObject, &ClientObject::of_idle> idle_;
  std::uint64_t idle_bytes_ = 0;
  std::uint64_t held_ = 0;
  std::uint64_t held_bytes_ = 0;
};

}  // namespace aktis::plasma
