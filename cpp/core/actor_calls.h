// The caller's side of actors: calls wait here in order until their actor is there and their arguments are.
//
// Pure state machine, called under the core's mutex. Calls of one caller reach an actor in the order of
// submission (unless it declared that it does not care); a call that is sent again after a restart takes its
// old place in the order. An actor is known by the WorkerId of its process: what belongs to an older process
// (a late reply, a late connection loss) names another worker and is ignored.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/tasks.h"

namespace aktis::core {

class ActorOutlet {
 public:
  virtual ~ActorOutlet() = default;
  // `idle`: nothing else is in flight to this actor, so the frame should leave at once.
  virtual void push_call(const WorkerId& worker, TaskRecord& task, bool idle) = 0;
  virtual void call_lost(TaskRecord& task, const std::string& reason) = 0;
};

// How much of one actor's calls may be on the way to it: what is beyond waits here, where it costs no more
// memory than the arguments do anyway.
struct ActorWindow {
  std::size_t calls = 4096;
  std::size_t bytes = 64u << 20;  // of arguments; one call always may
};

class ActorCalls {
 public:
  // PENDING: not there (yet, or restarting). CONNECTED. DEAD: every call fails.
  enum class State : std::uint8_t { kPending, kConnected, kDead };

  ActorCalls(ActorOutlet& outlet, const ActorWindow& window) : outlet_(outlet), window_(window) {}
  void set_window(const ActorWindow& window) { window_ = window; }

  // A new call, its arguments resolved or not, or one that runs again although it had ended (its attempt is
  // not the first), in its old place. Returns the error of a dead actor, null otherwise.
  std::shared_ptr<const OwnedValue> submit(TaskRecord& task);
  void argument_ready(TaskRecord& task);  // its last argument is there
  void again(TaskRecord& task);           // send it once more, in its old place

  void connect(const ActorId& actor, const WorkerId& worker);
  void pause(const ActorId& actor);
  // Dead for good; returns the calls to fail with `error`.
  std::vector<TaskRecord*> fail(const ActorId& actor, std::shared_ptr<const OwnedValue> error);
  void on_reply(TaskRecord& task);
  // The process is gone: its calls in flight are reported lost, the actor is pending.
  // Returns the actors that lived there.
  std::vector<ActorId> on_worker_lost(const WorkerId& worker, const std::string& reason);
  bool remove_queued(TaskRecord& task);

  void set_options(const ActorId& actor, bool out_of_order);
  std::size_t pending_calls(const ActorId& actor) const;  // queued and in flight
  std::size_t in_flight() const { return in_flight_; }
  State state(const ActorId& actor) const;
  WorkerId worker_of(const ActorId& actor) const;  // nil when it is not there

 private:
  struct Actor {
    State state = State::kPending;
    WorkerId worker;
    bool out_of_order = false;
    std::uint64_t next_number = 0;
    std::map<std::uint64_t, TaskRecord*> queue;      // by order of submission
    std::map<std::uint64_t, TaskRecord*> in_flight;  // the same
    std::size_t in_flight_bytes = 0;                 // their arguments
    std::shared_ptr<const OwnedValue> error;
  };
  void dispatch(Actor& actor);
  bool has_room(const Actor& actor, const TaskRecord& next) const;

  ActorOutlet& outlet_;
  ActorWindow window_;
  std::size_t in_flight_ = 0;
  std::unordered_map<ActorId, Actor, IdHash> actors_;
};

}  // namespace aktis::core
