// Ending on purpose. An owner takes the first task without an answer for one that was lost while it ran; so a
// process that leaves answers what it has run, says that it has begun nothing else, and only then is gone.
#include <algorithm>

#include "core/core.h"

namespace aktis::core {

std::size_t Core::drain_executor() {
  Guard guard(mutex_);
  draining_ = true;
  std::size_t given = 0;
  for (const auto& [name, group] : groups_) given += group.queue.size();
  give_back_queued();
  unlock_and_flush(guard);
  return given;
}

bool Core::take_leave(wire::TimePoint deadline) {
  if (gives_back()) drain_executor();
  wire::Waiter waiter;
  for (;;) {
    Guard guard(mutex_);
    if (closed_) return false;
    if (held_replies_.empty()) tell_that_it_leaves();
    urgent_ = true;
    unlock_and_flush(guard);
    guard.lock();
    if (has_left()) return true;
    leaving_waiters_.push_back(&waiter);
    guard.unlock();
    const bool woken = baton_.wait(waiter, deadline);
    guard.lock();
    leaving_waiters_.erase(std::remove(leaving_waiters_.begin(), leaving_waiters_.end(), &waiter),
                           leaving_waiters_.end());
    if (!woken) return false;
    waiter.reset();
  }
}

// A task that still runs is lost with the process: then its owner has to hear of a death.
void Core::tell_that_it_leaves() {
  if (leave_told_ || !gives_back() || !running_.empty()) return;
  leave_told_ = true;
  wire::ByteWriter out;
  encode_give_back(out, GiveBackReason::kLeaving, {});
  for (const auto& [connection, worker] : open_) {
    queue(connection->shared_from_this(), CoreFrame::kGiveBack, {out.view()}, true);
  }
}

bool Core::has_left() const {
  return held_replies_.empty() && std::all_of(open_.begin(), open_.end(), [](const auto& open) {
           return open.first->queued_bytes() == 0;
         });
}

// By whoever polls, in every round: a reply that was held has gone, or a peer has read what was written.
void Core::look_whether_left() {
  const bool may_tell = !leave_told_ && gives_back() && running_.empty();
  if (!held_replies_.empty() || (!may_tell && !has_left())) return;
  for (wire::Waiter* waiter : std::exchange(leaving_waiters_, {})) waiter->complete();
}

}  // namespace aktis::core
