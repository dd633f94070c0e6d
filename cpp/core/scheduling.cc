#include "core/scheduling.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

namespace aktis::core {
namespace {

// Leases that are asked for at a time. More tell the raylet nothing that the backlog does not, and when these
// have come others are asked for.
constexpr double kMaxWanted = 1024;

}  // namespace

void Scheduling::enqueue(TaskRecord& task, TimePoint now, bool front) {
  task.change(TaskState::kQueued);
  const std::uint64_t key = task.shape->class_key;
  Class& cls = classes_[key];
  cls.max_calls = task.shape->max_calls;
  any_priority_ |= task.shape->priority != 0;
  if (task.shape->speculative != 0 && !cls.speculation)
    cls.speculation = std::make_unique<Speculation>(config_.speculation);
  if (front) {
    cls.queue.push_front(task);
  } else {
    cls.queue.push_back(task);
  }
  dispatch(key, cls, now);
}

void Scheduling::add_lease(std::uint64_t class_key, LeaseId id, const WorkerId& worker, TimePoint now) {
  auto [position, added] = leases_.try_emplace(id);
  if (!added) return;  // a grant that arrived twice
  reclaimed_ = false;
  Lease& lease = position->second;
  lease.id = id;
  lease.class_key = class_key;
  lease.worker = worker;
  lease.last_progress = lease.idle_since = now;
  Class& cls = classes_[class_key];
  cls.leases.push_back(&lease);
  if (cls.wanted > 0) --cls.wanted;
  if (cls.yielded > 0) --cls.yielded;
  cls.infeasible = false;
  dispatch(class_key, cls, now);
  settle_idle(lease, cls, now);
}

void Scheduling::on_reply(TaskRecord& task, Nanoseconds run_time, TimePoint now) {
  const auto found = leases_.find(task.lease);
  if (found == leases_.end()) return;
  Lease& lease = found->second;
  const auto place = std::find(lease.in_flight.begin(), lease.in_flight.end(), &task);
  if (place == lease.in_flight.end()) return;
  lease.in_flight.erase(place);
  lease.blocked = lease.stuck = false;
  lease.last_progress = now;
  Class& cls = classes_[lease.class_key];
  const double run_ns = std::max<double>(1.0, static_cast<double>(run_time.count()));
  // A long task counts at once, short ones smoothly: depth must fall faster than it grows.
  cls.mean_run_ns = cls.mean_run_ns == 0 || run_ns > 8 * cls.mean_run_ns
                        ? run_ns
                        : cls.mean_run_ns + (run_ns - cls.mean_run_ns) / 8;
  if (cls.speculation && !task.cancel_requested) cls.speculation->finished(run_time);
  if (any_priority_ && !lease.closing) {
    if (Class* urgent = outranked_by(lease, now)) {
      yielded_to(*urgent, now);
      lease.closing = true;
    }
  }
  dispatch(lease.class_key, cls, now);
  settle_idle(lease, cls, now);
}

std::vector<TaskRecord*> Scheduling::on_give_back(LeaseId id, GiveBackReason reason,
                                                  std::span<TaskRecord* const> tasks, TimePoint now) {
  std::vector<TaskRecord*> cancelled;
  Lease* lease = find(id);
  if (lease == nullptr) return cancelled;
  Class& cls = classes_[lease->class_key];
  lease->blocked |= reason == GiveBackReason::kBlocked;
  lease->leaving |= reason == GiveBackReason::kLeaving;
  if (reason == GiveBackReason::kStolen) lease->stealing = false;
  const std::vector<TaskRecord*> rest(lease->in_flight.begin(), lease->in_flight.end());
  if (lease->leaving) tasks = rest;
  // Newest last in the message; pushed to the front in reverse, so that their order stays.
  for (auto task = tasks.rbegin(); task != tasks.rend(); ++task) {
    const auto place = std::find(lease->in_flight.begin(), lease->in_flight.end(), *task);
    if (place == lease->in_flight.end()) continue;
    lease->in_flight.erase(place);
    --lease->runs;
    (*task)->change(TaskState::kQueued);
    if ((*task)->cancel_requested || (*task)->is_copy) {
      cancelled.push_back(*task);
    } else {
      cls.queue.push_front(**task);
    }
  }
  dispatch(lease->class_key, cls, now);
  settle_idle(*lease, cls, now);
  return cancelled;
}

void Scheduling::on_lease_broken(LeaseId id, const std::string& reason, TimePoint now) {
  const auto found = leases_.find(id);
  if (found == leases_.end()) return;
  const std::uint64_t key = found->second.class_key;
  Class& cls = classes_[key];
  const std::deque<TaskRecord*> in_flight = std::move(found->second.in_flight);
  forget(found->second);
  leases_.erase(found);
  for (std::size_t i = in_flight.size(); i-- > 1;) {
    in_flight[i]->change(TaskState::kQueued);
    cls.queue.push_front(*in_flight[i]);
  }
  dispatch(key, cls, now);
  if (!in_flight.empty()) outlet_.task_lost(*in_flight.front(), reason);
  forget_if_ended(key);
}

bool Scheduling::remove_queued(TaskRecord& task) {
  const std::uint64_t key = task.shape->class_key;
  const auto found = classes_.find(key);
  if (found == classes_.end() || !found->second.queue.remove(task)) return false;
  if (!found->second.ended) ask_for_leases(key, found->second);
  forget_if_ended(key);
  return true;
}

bool Scheduling::drop_lease(LeaseId id) {
  const auto found = leases_.find(id);
  if (found == leases_.end() || !found->second.in_flight.empty()) return false;
  const std::uint64_t key = found->second.class_key;
  forget(found->second);
  leases_.erase(found);
  forget_if_ended(key);
  return true;
}

void Scheduling::end_class(std::uint64_t key) {
  const auto found = classes_.find(key);
  if (found == classes_.end()) return;
  found->second.ended = true;
  forget_if_ended(key);
}

void Scheduling::forget_if_ended(std::uint64_t key) {
  const auto found = classes_.find(key);
  if (found == classes_.end() || !found->second.ended) return;
  if (found->second.queue.empty() && found->second.leases.empty()) classes_.erase(found);
}

void Scheduling::tick(TimePoint now) {
  std::vector<Lease*> idle;
  for (auto& [key, cls] : classes_) {
    if (cls.leases.empty() && cls.queue.empty()) continue;
    for (Lease* lease : cls.leases) {
      lease->stuck = !lease->in_flight.empty() && now - lease->last_progress >= config_.stuck_after;
    }
    steal_for(cls, now);
    dispatch(key, cls, now);
    if (cls.speculation && !cls.ended) speculate(key, cls, now);
    for (Lease* lease : cls.leases) {
      if (!lease->in_flight.empty() || lease->leaving) continue;
      if (now - lease->idle_since >= config_.lease_grace) idle.push_back(lease);
    }
  }
  for (Lease* lease : idle) give_up(*lease);  // a class may go with its last lease
  if (any_priority_) yield_to_priority(now);
}

std::vector<LeaseId> Scheduling::reclaim(std::uint32_t excess) {
  reclaimed_ = true;
  std::vector<LeaseId> idle;
  for (const auto& [id, lease] : leases_) {
    // A worker that ends by itself is not to be leased once more.
    if (lease.in_flight.empty() && !is_spent(classes_[lease.class_key], lease)) idle.push_back(id);
  }
  auto to_close = static_cast<std::int64_t>(excess) - static_cast<std::int64_t>(idle.size());
  for (auto& [id, lease] : leases_) {
    if (to_close <= 0) break;
    if (lease.in_flight.empty()) continue;
    --to_close;
    if (!lease.closing) close(lease);
  }
  return idle;
}

// It goes back after the task that it runs; what is queued behind that does not wait for it.
void Scheduling::close(Lease& lease) {
  lease.closing = true;
  if (lease.in_flight.size() < 2 || lease.stealing) return;
  lease.stealing = true;
  outlet_.steal(lease, static_cast<std::uint32_t>(lease.in_flight.size() - 1));
}

// A more urgent class needs a lease: the raylet serves its request first, but only with what is given back.
// Not more at a time than it asked for, and one more now and then: what comes back may not be enough of what
// it needs, or go to somebody else.
Scheduling::Class* Scheduling::outranked_by(const Lease& lease, TimePoint now) {
  const Class& own = classes_.at(lease.class_key);
  if (own.queue.empty() && lease.in_flight.empty()) return nullptr;
  const std::int32_t next =
      own.queue.empty() ? lease.in_flight.front()->shape->priority : own.queue.top_priority();
  for (auto& [key, other] : classes_) {
    if (other.queue.empty() || other.wanted == 0 || other.queue.top_priority() <= next) continue;
    if (other.infeasible) continue;
    if (other.yielded < other.wanted || now - other.yielded_at >= config_.lease_grace) return &other;
  }
  return nullptr;
}

void Scheduling::yielded_to(Class& cls, TimePoint now) {
  ++cls.yielded;
  cls.yielded_at = now;
}

void Scheduling::yield_to_priority(TimePoint now) {
  for (auto& [id, lease] : leases_) {
    if (lease.closing || lease.blocked || lease.in_flight.empty()) continue;
    Class* urgent = outranked_by(lease, now);
    if (urgent == nullptr) continue;
    yielded_to(*urgent, now);
    return close(lease);
  }
}

void Scheduling::set_infeasible(std::uint64_t class_key, bool infeasible) {
  const auto found = classes_.find(class_key);
  if (found != classes_.end()) found->second.infeasible = infeasible;
}

std::vector<TaskRecord*> Scheduling::queued(std::uint64_t class_key) const {
  const auto found = classes_.find(class_key);
  if (found == classes_.end()) return {};
  return found->second.queue.all();
}

Lease* Scheduling::find(LeaseId id) {
  const auto found = leases_.find(id);
  return found == leases_.end() ? nullptr : &found->second;
}

Lease* Scheduling::find_worker(const WorkerId& worker) {
  for (auto& [id, lease] : leases_) {
    if (lease.worker == worker) return &lease;
  }
  return nullptr;
}

std::size_t Scheduling::queued_count() const {
  std::size_t count = 0;
  for (const auto& [key, cls] : classes_) count += cls.queue.size();
  return count;
}

bool Scheduling::starves() const {
  return std::any_of(classes_.begin(), classes_.end(), [](const auto& known) {
    return !known.second.queue.empty() && known.second.leases.empty();
  });
}

std::uint32_t Scheduling::depth(const Class& cls) const {
  if (cls.mean_run_ns == 0) return 1;
  const double fit = static_cast<double>(config_.pipeline_window.count()) / cls.mean_run_ns;
  return static_cast<std::uint32_t>(std::clamp(fit, 1.0, static_cast<double>(config_.max_depth)));
}

// Its worker ends by itself, now or any moment.
bool Scheduling::is_spent(const Class& cls, const Lease& lease) {
  return lease.leaving || (cls.max_calls > 0 && lease.runs >= cls.max_calls);
}

Lease* Scheduling::best_lease(Class& cls, const TaskRecord& task) const {
  if (cls.ended) return nullptr;
  const std::uint32_t limit = depth(cls);
  Lease* best = nullptr;
  for (Lease* lease : cls.leases) {
    if (lease->blocked || lease->closing || lease->stuck || lease->in_flight.size() >= limit) continue;
    if (is_spent(cls, *lease) || (task.speculated && runs_already(*lease, task))) continue;
    if (best == nullptr || lease->in_flight.size() < best->in_flight.size()) best = lease;
    if (best->in_flight.empty()) break;
  }
  return best;
}

void Scheduling::dispatch(std::uint64_t key, Class& cls, TimePoint now) {
  while (!cls.queue.empty()) {
    TaskRecord& task = cls.queue.front();
    Lease* lease = best_lease(cls, task);
    if (lease == nullptr) break;
    cls.queue.pop_front();
    give(*lease, task, now);
  }
  ask_for_leases(key, cls);
}

void Scheduling::give(Lease& lease, TaskRecord& task, TimePoint now) {
  if (lease.in_flight.empty()) lease.last_progress = now;
  ++lease.runs;
  task.change(TaskState::kPushed);
  task.lease = lease.id;
  task.worker = lease.worker;
  lease.in_flight.push_back(&task);
  outlet_.push(lease, task);
}

std::uint64_t Scheduling::backlog(const Class& cls) const {
  std::uint64_t waiting = cls.queue.size();
  for (const Lease* lease : cls.leases) {
    // Of what a worker holds, all but the task that it runs could run elsewhere.
    if (lease->in_flight.size() > 1) waiting += lease->in_flight.size() - 1;
  }
  return waiting;
}

void Scheduling::ask_for_leases(std::uint64_t key, Class& cls) {
  if (cls.ended) {
    if (!cls.queue.empty()) outlet_.need_leases(key, {1, cls.queue.size()});
    return;
  }
  const std::uint64_t waiting = backlog(cls);
  double useful = static_cast<double>(waiting);
  if (cls.max_calls > 0) {
    useful = std::ceil(useful / cls.max_calls);  // as many workers as that takes, however short the work is
  } else if (cls.mean_run_ns > 0) {
    useful = std::min(useful,
                      std::ceil(useful * cls.mean_run_ns / static_cast<double>(config_.lease_worth.count())));
  }
  const bool any_usable = std::any_of(cls.leases.begin(), cls.leases.end(), [&](const Lease* lease) {
    return !lease->blocked && !lease->closing && !lease->stuck && !is_spent(cls, *lease);
  });
  // Work of a few milliseconds is not worth a second worker, but some worker there must be.
  LeaseWish wish{static_cast<std::uint32_t>(std::min(useful, kMaxWanted)), waiting,
                 cls.queue.empty() ? 0 : cls.queue.top_priority()};
  std::uint32_t& wanted = wish.wanted;
  if (any_usable && cls.queue.empty() && useful <= 1) wanted = 0;
  if (!any_usable && waiting > 0) wanted = std::max(wanted, 1u);
  if (cls.speculation && waiting == 0) wish = wish_for_copies(cls);
  const bool grew = wanted > cls.wanted && (cls.wanted == 0 || wanted >= 2 * cls.wanted);
  const bool vanished = wanted == 0 && cls.wanted > 0;
  const bool differs = wanted > 0 && !cls.queue.empty() && wish.priority != cls.told_priority;
  if (!grew && !vanished && !differs) return;
  cls.wanted = wanted;
  cls.told_priority = wish.priority;
  if (wanted == 0) cls.yielded = 0, cls.infeasible = false;
  outlet_.need_leases(key, wish);
}

void Scheduling::settle_idle(Lease& lease, Class& cls, TimePoint now) {
  if (!lease.in_flight.empty()) return;
  lease.idle_since = now;
  steal_for(cls, now);
  if ((reclaimed_ || lease.closing) && !is_spent(cls, lease)) give_up(lease);
}

// The lease is no more when this returns, nor is its class when that has ended.
void Scheduling::give_up(Lease& lease) {
  const LeaseId id = lease.id;
  if (drop_lease(id)) outlet_.return_lease(id);
}

void Scheduling::steal_for(Class& cls, TimePoint now) {
  const bool someone_idle = std::any_of(cls.leases.begin(), cls.leases.end(), [&](const Lease* lease) {
    return lease->in_flight.empty() && !lease->blocked && !lease->closing && !is_spent(cls, *lease);
  });
  if (!someone_idle || !cls.queue.empty()) return;
  Lease* victim = nullptr;
  for (Lease* lease : cls.leases) {
    if (lease->in_flight.size() < 2 || lease->stealing) continue;
    const double queued_ns = static_cast<double>(lease->in_flight.size() - 1) * cls.mean_run_ns;
    const bool worthwhile = queued_ns > static_cast<double>(config_.steal_worthwhile.count());
    const bool stuck = now - lease->last_progress >= config_.stuck_after;
    if (!worthwhile && !stuck) continue;
    if (victim == nullptr || lease->in_flight.size() > victim->in_flight.size()) victim = lease;
  }
  if (victim == nullptr) return;
  victim->stealing = true;
  // All but the running one when it is stuck behind that; half when work merely is uneven.
  const bool stuck = now - victim->last_progress >= config_.stuck_after;
  const auto queued = static_cast<std::uint32_t>(victim->in_flight.size() - 1);
  outlet_.steal(*victim, stuck ? queued : (queued + 1) / 2);
}

void Scheduling::forget(Lease& lease) {
  auto& leases = classes_[lease.class_key].leases;
  leases.erase(std::remove(leases.begin(), leases.end(), &lease), leases.end());
}

void Scheduling::validate() const {
  for (const auto& [key, cls] : classes_) {
    for (const TaskRecord* task : cls.queue.all()) {
      if (task->state != TaskState::kQueued)
        throw std::logic_error("a queued task is " + std::string(to_string(task->state)));
      if (task->is_copy) throw std::logic_error("a second run of a task is queued");
    }
    for (const Lease* lease : cls.leases) {
      if (leases_.at(lease->id).class_key != key) throw std::logic_error("a lease is in the wrong class");
      for (const TaskRecord* task : lease->in_flight) {
        if (task->state != TaskState::kPushed || task->lease != lease->id) {
          throw std::logic_error("a task in flight is not pushed to its lease");
        }
      }
    }
  }
}

}  // namespace aktis::core
