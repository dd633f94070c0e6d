// An owner, its raylet and workers in one simulated world: the real Scheduling, and models of what it talks
// to. Messages of one connection arrive in order, each after as long as chance likes; a clock jumps from
// event to event. So a schedule is a seed.
//
// The models do what core_execute.cc (workers), the lease policy of the service thread and the raylet's
// scheduler do as far as an owner can see it: workers that block, say so, go on, hold replies back, leave
// after max_calls or die; CPUs that are lent out; leases that are asked back because others wait.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/core_scheduling_fixture.h"

namespace aktis::core::simulation {

struct Step {
  // kWork: computes. kBlock: waits for a daemon. kAwait: for the result of another task, from their owner.
  // kGate: for the test; it looks busy.
  enum class Kind : std::uint8_t { kWork, kBlock, kAwait, kGate };
  Kind kind;
  Nanoseconds time{0};
  std::size_t other = 0;
};

struct Job {
  TaskRecord record;
  std::vector<Step> steps;
  bool endless = false;
  std::vector<std::size_t> awaited_by;  // workers
  bool done() const { return record.state == TaskState::kFinished; }
};

struct Worker {
  WorkerId id = WorkerId::random();
  std::deque<Job*> queue;
  Job* running = nullptr;
  std::size_t step = 0;
  TimePoint began;
  std::uint64_t blocks = 0;  // how often it has blocked
  bool blocked = false;
  bool told = false;  // the raylet knows
  bool leaving = false;
  bool dead = false;
  std::uint32_t runs = 0;
  std::uint32_t held_replies = 0;
};

class World : private SchedulingOutlet {
 public:
  World(std::uint32_t seed, std::int64_t cpus) : random_(seed), cpus_(cpus), free_cpus_(cpus) { tick(); }

  // ---- what the test does ----

  std::uint32_t chance(std::uint32_t below) { return below == 0 ? 0 : random_() % below; }
  Nanoseconds between(Nanoseconds least, Nanoseconds most) {
    return least +
           Nanoseconds(std::uniform_int_distribution<std::int64_t>(0, (most - least).count())(random_));
  }
  std::shared_ptr<TaskTemplate> add_class(std::uint32_t max_calls, std::int32_t priority) {
    auto shape = std::make_shared<TaskTemplate>();
    shape->class_key = ++classes_;
    shape->max_retries = -1;
    shape->max_calls = max_calls;
    shape->priority = priority;
    return shape;
  }
  Job& make_job(std::shared_ptr<const TaskTemplate> shape, std::vector<Step> steps) {
    Job& job = jobs_.emplace_back();
    job.record.id = TaskId::random();
    job.record.shape = std::move(shape);
    job.steps = std::move(steps);
    by_record_[&job.record] = &job;
    return job;
  }
  void submit(Job& job) { scheduling_.enqueue(job.record, now_); }
  void at(TimePoint time, std::function<void()> what) {
    events_.push({time, ++last_event_, std::move(what)});
  }
  TimePoint now() const { return now_; }
  std::size_t jobs() const { return jobs_.size(); }
  void add_stranger(Nanoseconds time) {  // somebody else's task
    strangers_.push_back(time);
    settle();
  }
  void kill_somebody();
  void open_gate();
  // Time passes until `reached`; false when it is not within `limit`.
  bool run_until(const std::function<bool()>& reached, Nanoseconds limit);
  bool all_done(bool endless_too) const {
    return std::ranges::all_of(jobs_,
                               [=](const Job& job) { return job.done() || (job.endless && !endless_too); });
  }
  // Every lease went back, and the books of both sides agree.
  bool at_rest() const {
    return scheduling_.lease_count() == 0 && leases_.empty() && strangers_.empty() && free_cpus_ == cpus_;
  }
  std::string describe() const;

 private:
  struct Event {
    TimePoint time;
    std::uint64_t number;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return std::pair(time, number) > std::pair(other.time, other.number);
    }
  };
  struct News {  // for the owner's policy thread
    std::uint64_t class_key = 0;
    std::int64_t wish = -1;  // what the core could use; -1: none of that
    std::int32_t priority = 0;
    std::vector<std::pair<LeaseId, std::size_t>> granted;
    bool others_wait = false;
    std::uint32_t excess = 0;  // leases that are asked for back whether they are idle or not
    LeaseId lost = 0;
    TaskRecord* lost_task = nullptr;
  };
  struct Demand {
    std::uint32_t wanted = 0;
    std::int32_t priority = 0;
  };
  struct RayletLease {
    std::size_t worker;
    bool lent = false;
  };
  enum class Link : std::uint8_t {
    kOwnerToWorker,
    kWorkerToOwner,
    kWorkerToRaylet,
    kOwnerToRaylet,
    kRayletToOwner
  };

  Nanoseconds delay();
  void send(Link link, std::size_t worker, std::function<void()> what);
  void tick();

  // The owner.
  void push(Lease& lease, TaskRecord& task) override;
  void steal(Lease& victim, std::uint32_t count) override;
  void need_leases(std::uint64_t class_key, const LeaseWish& wish) override;
  void return_lease(LeaseId lease) override;
  void task_lost(TaskRecord& task, const std::string&) override;
  TaskRecord& copy(TaskRecord&) override { throw std::logic_error("no task of this world runs twice"); }
  void on_reply(std::size_t worker, Job& job, Nanoseconds time);
  void on_give_back(std::size_t worker, GiveBackReason reason, const std::vector<Job*>& jobs);
  void on_get(std::size_t worker, Job& other);
  void on_broken(std::size_t worker);
  void tell_policy(News news);
  void handle(const News& news);

  // A worker.
  std::size_t worker_of(const WorkerId& id) const { return by_worker_.at(id); }
  void receive(std::size_t worker, Job& job);
  void give_back_queue(std::size_t worker);
  void give_back(std::size_t worker, GiveBackReason reason, std::vector<Job*> jobs);
  void on_steal(std::size_t worker, std::uint32_t count);
  void start_next(std::size_t worker);
  void go_on(std::size_t worker);
  void block(std::size_t worker);
  void unblock(std::size_t worker);
  void finish(std::size_t worker);
  void reply(std::size_t worker, Job& job, Nanoseconds time);
  void leave_if_answered(std::size_t worker);
  void end(std::size_t worker);

  // The raylet.
  void settle();
  bool grant_one(std::map<std::uint64_t, std::vector<std::pair<LeaseId, std::size_t>>>& grants);
  bool somebody_waits() const;
  void release(LeaseId lease, bool worker_lives);
  void on_returned(LeaseId lease, bool worker_lives);
  void on_blocked(std::size_t worker, bool blocked);
  void on_died(std::size_t worker);

  std::mt19937 random_;
  TimePoint now_{seconds(1000)};
  std::priority_queue<Event> events_;
  std::uint64_t last_event_ = 0;
  std::map<std::pair<Link, std::size_t>, TimePoint> links_;  // when the last message arrives

  Scheduling scheduling_{*this, {}};
  std::deque<Job> jobs_;
  std::unordered_map<const TaskRecord*, Job*> by_record_;
  std::uint64_t classes_ = 0;
  std::vector<News> news_;
  bool policy_wakes_ = false;

  std::deque<Worker> workers_;
  std::unordered_map<WorkerId, std::size_t, IdHash> by_worker_;
  std::vector<std::size_t> at_gate_;
  bool gate_open_ = false;

  std::int64_t cpus_;
  std::int64_t free_cpus_;  // negative while those who went on have taken back what they had lent
  std::map<std::uint64_t, Demand> demands_;
  std::deque<Nanoseconds> strangers_;
  std::map<LeaseId, RayletLease> leases_;
  std::vector<std::size_t> idle_workers_;
  std::uint32_t starting_ = 0;
  bool owner_unasked_ = false;  // it has not heard since its last grant that others wait
  LeaseId last_lease_ = 0;
};

}  // namespace aktis::core::simulation
