// The owner's side of leases: which queued task goes to which leased worker, and when.
//
// Pure state machine (no I/O, no lock, no clock of its own): the core calls it under its mutex and carries
// out what it asks through the Outlet. One instance per process.
//
// * A scheduling class is a queue and the leases that may run its tasks.
// * A leased worker holds several tasks at a time. The depth follows the measured time of the class's tasks:
//   as many as fit in kPipelineWindow, one while nothing is known. So long tasks are never queued behind one
//   another while another worker could be had, and microsecond tasks keep the pipe full.
// * A lease that runs dry while another of its class holds more work than is worth waiting for takes half of
//   it (steal: the owner asks, the busy worker gives back what it has not started).
// * A task that turns out to be long gets nothing more queued behind it, and when all leases are stuck like
//   this, one more is asked for, which then steals: what waits must not depend on the end of what runs.
// * A worker that blocks gives its queued tasks back by itself and gets no more until it answers. It may go
//   on before that: what comes then, sent before its owner knew, lies behind its task and is stolen as usual.
// * Higher priorities are pushed first. What has been pushed is not called back, but classes whose work is
//   less urgent give up as many leases as another one lacks, each after the task that it runs.
// * Where a worker ends after `max_calls` runs it is not given more than that, and when it says that it
// leaves,
//   what it has not answered is queued again.
// * A task that runs for much longer than its siblings is started once more on an idle lease, where its
//   function allows that (core/scheduling_copies.cc).
// * When a lease breaks, replies having arrived in order, only the first unanswered task can have started,
//   or a later one that may be retried: the first is reported lost, the others are queued again.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/speculation.h"
#include "core/task_queue.h"
#include "core/tasks.h"

namespace aktis::core {

using Nanoseconds = std::chrono::nanoseconds;
using TimePoint = std::chrono::steady_clock::time_point;

struct Lease {
  LeaseId id = 0;
  std::uint64_t class_key = 0;
  WorkerId worker;
  std::deque<TaskRecord*> in_flight;  // in the order pushed
  bool blocked = false;
  bool stuck = false;  // its first task has run for long, judged by the tick: nothing is queued behind that
  bool stealing = false;   // a steal request is under way to this worker
  bool closing = false;    // goes back to the raylet after the task that it runs
  bool leaving = false;    // its worker is ending by itself
  std::uint32_t runs = 0;  // tasks that it was given and has not handed back
  TimePoint last_progress;
  TimePoint idle_since;
};

// More leases that would be of use to a class; `wanted` 0: none any more.
struct LeaseWish {
  std::uint32_t wanted = 0;
  std::uint64_t backlog = 0;
  std::int32_t priority = 0;  // the highest of what is queued
};

// What the state machine asks for. Implemented by the core and by tests.
class SchedulingOutlet {
 public:
  virtual ~SchedulingOutlet() = default;
  virtual void push(Lease& lease, TaskRecord& task) = 0;
  virtual void steal(Lease& victim, std::uint32_t count) = 0;
  // Sent when it changes by much.
  virtual void need_leases(std::uint64_t class_key, const LeaseWish& wish) = 0;
  // It has had nothing to do for its grace time, or others wait: it is forgotten here and goes back.
  virtual void return_lease(LeaseId lease) = 0;
  virtual void task_lost(TaskRecord& task, const std::string& reason) = 0;
  // A record for a second run of a task that is pushed: WAITING, with an attempt number of its own.
  virtual TaskRecord& copy(TaskRecord& task) = 0;
};

struct SchedulingConfig {
  std::uint32_t max_depth = 128;
  Nanoseconds pipeline_window = std::chrono::milliseconds(2);
  Nanoseconds steal_worthwhile = std::chrono::milliseconds(1);
  Nanoseconds stuck_after = std::chrono::milliseconds(5);
  Nanoseconds lease_grace = std::chrono::seconds(1);
  Nanoseconds lease_worth = std::chrono::milliseconds(5);  // one more lease per so much queued work
  SpeculationConfig speculation;
};

class Scheduling {
 public:
  Scheduling(SchedulingOutlet& outlet, SchedulingConfig config) : outlet_(outlet), config_(config) {}

  void set_config(const SchedulingConfig& config) { config_ = config; }

  // The task's arguments are resolved. `front`: it has been queued before (retry, given back).
  void enqueue(TaskRecord& task, TimePoint now, bool front = false);
  void add_lease(std::uint64_t class_key, LeaseId id, const WorkerId& worker, TimePoint now);
  // The reply of a pushed task has come; the caller finishes the task.
  void on_reply(TaskRecord& task, Nanoseconds run_time, TimePoint now);
  // The worker hands tasks back that it has not started. Tasks that are not (any more) pushed there are
  // ignored. Returns those that are not queued again: copies, which the caller forgets, and those that were
  // asked to be cancelled, which it finishes.
  std::vector<TaskRecord*> on_give_back(LeaseId lease, GiveBackReason reason,
                                        std::span<TaskRecord* const> tasks, TimePoint now);
  // The worker's connection broke or the raylet took the lease back.
  void on_lease_broken(LeaseId lease, const std::string& reason, TimePoint now);
  // The two runs of a task change places: each goes on as what the other was. Where one of them is not in
  // flight (any more), the other is not either afterwards.
  void exchange(TaskRecord& task, TaskRecord& copy);
  // Removes a queued task (cancelled or failed); false when it is not queued.
  bool remove_queued(TaskRecord& task);
  // Ends an idle lease; false when it has tasks or is unknown.
  bool drop_lease(LeaseId lease);
  // Time passes: stuck pipelines are stolen from, idle leases returned.
  void tick(TimePoint now);

  // Others wait for what our leases hold: the idle ones, and from now on until the next lease comes a lease
  // goes back as soon as it is idle, without its grace time. `excess` leases are beyond this job's fair
  // share: as many go back after the task that they run, whatever is queued.
  std::vector<LeaseId> reclaim(std::uint32_t excess);
  // Whether what a class asked for can never be had on this cluster as it is: nobody gives up anything for
  // it.
  void set_infeasible(std::uint64_t class_key, bool infeasible);
  // Nothing of the class starts any more: what is queued now or later waits for the caller to remove it, who
  // is told as of a need for leases. It is forgotten when nothing of it is left.
  void end_class(std::uint64_t class_key);
  std::vector<TaskRecord*> queued(std::uint64_t class_key) const;
  Lease* find(LeaseId lease);
  Lease* find_worker(const WorkerId& worker);
  std::size_t lease_count() const { return leases_.size(); }
  std::size_t queued_count() const;
  std::size_t class_count() const { return classes_.size(); }
  bool starves() const;   // tasks of some class are queued and it has no lease at all
  void validate() const;  // throws std::logic_error that names the broken invariant

 private:
  struct Class {
    TaskQueue queue;
    std::vector<Lease*> leases;
    std::uint32_t max_calls = 0;  // runs after which a worker ends; 0: any number
    double mean_run_ns = 0;       // 0: nothing known
    std::uint32_t wanted = 0;     // what the outlet was told last, less the leases that came since
    std::int32_t told_priority = 0;
    std::uint32_t yielded = 0;  // leases that less urgent classes have given up for it and that did not come
    TimePoint yielded_at;
    bool infeasible = false;
    bool ended = false;
    std::unique_ptr<Speculation> speculation;  // when a task of it may run twice
    std::uint32_t stragglers = 0;              // that would run twice if there was a lease
  };

  std::uint32_t depth(const Class& cls) const;
  static bool is_spent(const Class& cls, const Lease& lease);
  void dispatch(std::uint64_t key, Class& cls, TimePoint now);
  void give(Lease& lease, TaskRecord& task, TimePoint now);
  Lease* best_lease(Class& cls, const TaskRecord& task) const;
  void ask_for_leases(std::uint64_t key, Class& cls);
  std::uint64_t backlog(const Class& cls) const;
  void settle_idle(Lease& lease, Class& cls, TimePoint now);
  void steal_for(Class& cls, TimePoint now);
  Class* outranked_by(const Lease& lease, TimePoint now);
  static void yielded_to(Class& cls, TimePoint now);
  void yield_to_priority(TimePoint now);
  void close(Lease& lease);
  void give_up(Lease& lease);
  void forget(Lease& lease);
  void forget_if_ended(std::uint64_t class_key);

  // scheduling_copies.cc
  void speculate(std::uint64_t key, Class& cls, TimePoint now);
  std::vector<TaskRecord*> stragglers_of(const Class& cls, TimePoint now) const;
  static Lease* idle_lease(const Class& cls);
  static LeaseWish wish_for_copies(const Class& cls);
  static bool runs_already(const Lease& lease, const TaskRecord& task);
  void put_in_place(TaskRecord& task, LeaseId lease, const TaskRecord& instead_of);

  SchedulingOutlet& outlet_;
  SchedulingConfig config_;
  bool reclaimed_ = false;
  bool any_priority_ = false;  // some task has had another one than the default
  std::unordered_map<std::uint64_t, Class> classes_;
  std::unordered_map<LeaseId, Lease> leases_;
};

}  // namespace aktis::core
