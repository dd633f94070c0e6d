// Whatever the order in which an owner, its workers and the raylet hear of one another: what has an end comes
// to it although other tasks have none, and every lease goes back.
#include <algorithm>
#include <sstream>

#include "tests/core_scheduling_world.h"

namespace aktis::core::simulation {

// ---- the world ----

bool World::run_until(const std::function<bool()>& reached, Nanoseconds limit) {
  const TimePoint deadline = now_ + limit;
  while (!reached()) {
    if (events_.empty() || events_.top().time > deadline) return false;
    const Event event = events_.top();
    events_.pop();
    now_ = event.time;
    event.what();
    scheduling_.validate();
  }
  return true;
}

// Mostly what it takes on an idle machine, now and then what it takes on one that has other things to do.
Nanoseconds World::delay() {
  const std::uint32_t luck = chance(100);
  if (luck < 70) return between(microseconds(20), microseconds(200));
  if (luck < 95) return between(microseconds(200), milliseconds(2));
  return between(milliseconds(2), milliseconds(30));
}

void World::send(Link link, std::size_t worker, std::function<void()> what) {
  TimePoint& last = links_[{link, worker}];
  last = std::max(last, now_ + delay());
  at(last, std::move(what));
}

void World::tick() {
  scheduling_.tick(now_);
  at(now_ + milliseconds(10), [this] { tick(); });
}

void World::open_gate() {
  gate_open_ = true;
  for (const std::size_t worker : std::exchange(at_gate_, {})) {
    if (!workers_[worker].dead) go_on(worker);
  }
}

void World::kill_somebody() {
  if (workers_.empty()) return;
  const std::size_t worker = chance(static_cast<std::uint32_t>(workers_.size()));
  if (!workers_[worker].dead) end(worker);
}

std::string World::describe() const {
  std::ostringstream text;
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    const Job& job = jobs_[i];
    if (job.done()) continue;
    text << "task " << i << (job.endless ? " (endless) " : " ") << to_string(job.record.state);
    if (job.record.state == TaskState::kPushed) text << " to lease " << job.record.lease;
    text << "; ";
  }
  for (const auto& [key, demand] : demands_) text << "class " << key << " wants " << demand.wanted << "; ";
  for (const auto& [id, lease] : leases_) {
    const Worker& worker = workers_[lease.worker];
    text << "lease " << id << (worker.running != nullptr ? " runs" : " idles") << " with "
         << worker.queue.size() << " behind" << (lease.lent ? ", lends its CPU; " : "; ");
  }
  text << free_cpus_ << " CPUs free, " << strangers_.size() << " strangers wait, the owner knows "
       << scheduling_.lease_count() << " leases and has " << scheduling_.queued_count() << " tasks queued";
  return text.str();
}

// ---- the owner ----

void World::push(Lease& lease, TaskRecord& task) {
  const std::size_t worker = worker_of(lease.worker);
  Job& job = *by_record_.at(&task);
  send(Link::kOwnerToWorker, worker, [this, worker, &job] { receive(worker, job); });
}

void World::steal(Lease& victim, std::uint32_t count) {
  const std::size_t worker = worker_of(victim.worker);
  send(Link::kOwnerToWorker, worker, [this, worker, count] { on_steal(worker, count); });
}

void World::return_lease(LeaseId lease) {
  send(Link::kOwnerToRaylet, 0, [this, lease] { on_returned(lease, true); });
}

// A later wish takes the place of one that has not been told yet.
void World::need_leases(std::uint64_t class_key, const LeaseWish& wish) {
  const News news{.class_key = class_key, .wish = wish.wanted, .priority = wish.priority};
  for (News& earlier : news_) {
    if (earlier.wish >= 0 && earlier.class_key == class_key) {
      earlier = news;
      return;
    }
  }
  tell_policy(news);
}

void World::task_lost(TaskRecord& task, const std::string&) {
  task.change(TaskState::kSuspended);
  tell_policy({.lost_task = &task});
}

void World::on_reply(std::size_t worker, Job& job, Nanoseconds time) {
  if (job.record.state != TaskState::kPushed || job.record.worker != workers_[worker].id) return;
  scheduling_.on_reply(job.record, time, now_);
  job.record.change(TaskState::kFinished);
  for (const std::size_t waiting : std::exchange(job.awaited_by, {})) on_get(waiting, job);
}

void World::on_give_back(std::size_t worker, GiveBackReason reason, const std::vector<Job*>& jobs) {
  std::vector<TaskRecord*> tasks;
  for (Job* job : jobs) {
    if (job->record.state == TaskState::kPushed && job->record.worker == workers_[worker].id)
      tasks.push_back(&job->record);
  }
  const Lease* lease = scheduling_.find_worker(workers_[worker].id);
  if (!tasks.empty()) lease = scheduling_.find(tasks.back()->lease);
  if (lease != nullptr) scheduling_.on_give_back(lease->id, reason, tasks, now_);
}

void World::on_get(std::size_t worker, Job& other) {
  if (!other.done()) {
    other.awaited_by.push_back(worker);
    return;
  }
  send(Link::kOwnerToWorker, worker, [this, worker] {
    if (workers_[worker].dead) return;
    unblock(worker);
    go_on(worker);
  });
}

void World::on_broken(std::size_t worker) {
  while (const Lease* lease = scheduling_.find_worker(workers_[worker].id)) {
    const LeaseId id = lease->id;
    scheduling_.on_lease_broken(id, "its connection broke", now_);
    send(Link::kOwnerToRaylet, 0, [this, id] { on_returned(id, false); });
  }
}

void World::tell_policy(News news) {
  news_.push_back(std::move(news));
  if (std::exchange(policy_wakes_, true)) return;
  at(now_ + delay(), [this] {
    policy_wakes_ = false;
    for (const News& one : std::exchange(news_, {})) handle(one);
  });
}

void World::handle(const News& news) {
  if (news.wish >= 0) {
    const Demand demand{static_cast<std::uint32_t>(news.wish), news.priority};
    send(Link::kOwnerToRaylet, 0, [this, key = news.class_key, demand] {
      demands_[key] = demand;
      settle();
    });
  }
  for (const auto& [lease, worker] : news.granted) {
    scheduling_.add_lease(news.class_key, lease, workers_[worker].id, now_);
    if (workers_[worker].dead) on_broken(worker);
  }
  if (news.others_wait) {
    for (const LeaseId lease : scheduling_.reclaim(news.excess)) {
      if (scheduling_.drop_lease(lease)) return_lease(lease);
    }
  }
  if (news.lost != 0) scheduling_.on_lease_broken(news.lost, "its worker died", now_);
  if (news.lost_task != nullptr) scheduling_.enqueue(*news.lost_task, now_, true);
}

// ---- a worker ----

void World::receive(std::size_t number, Job& job) {
  Worker& worker = workers_[number];
  if (worker.dead) return;
  if (worker.blocked || worker.leaving) return give_back(number, GiveBackReason::kBlocked, {&job});
  worker.queue.push_back(&job);
  if (worker.running == nullptr) start_next(number);
}

void World::give_back(std::size_t worker, GiveBackReason reason, std::vector<Job*> jobs) {
  send(Link::kWorkerToOwner, worker,
       [this, worker, reason, jobs = std::move(jobs)] { on_give_back(worker, reason, jobs); });
}

void World::give_back_queue(std::size_t number) {
  auto& queue = workers_[number].queue;
  if (queue.empty()) return;
  give_back(number, GiveBackReason::kBlocked, {queue.begin(), queue.end()});
  queue.clear();
}

void World::on_steal(std::size_t number, std::uint32_t count) {
  Worker& worker = workers_[number];
  if (worker.dead) return;
  const auto given = std::min<std::size_t>(count, worker.queue.size());
  const auto first = worker.queue.end() - static_cast<std::ptrdiff_t>(given);
  give_back(number, GiveBackReason::kStolen, {first, worker.queue.end()});
  worker.queue.erase(first, worker.queue.end());
}

void World::start_next(std::size_t number) {
  Worker& worker = workers_[number];
  worker.running = nullptr;
  if (worker.queue.empty()) return;
  worker.running = worker.queue.front();
  worker.queue.pop_front();
  worker.step = 0;
  worker.began = now_;
  go_on(number);
}

void World::go_on(std::size_t number) {
  Worker& worker = workers_[number];
  if (worker.step == worker.running->steps.size()) return finish(number);
  const Step& step = worker.running->steps[worker.step++];
  const auto later = [this, number, &worker](bool was_blocked) {
    return [this, number, &worker, was_blocked] {
      if (worker.dead) return;
      if (was_blocked) unblock(number);
      go_on(number);
    };
  };
  switch (step.kind) {
    case Step::Kind::kWork:
      return at(now_ + step.time, later(false));
    case Step::Kind::kBlock:
      block(number);
      return at(now_ + step.time, later(true));
    case Step::Kind::kAwait:
      block(number);
      return send(Link::kWorkerToOwner, number,
                  [this, number, &other = jobs_[step.other]] { on_get(number, other); });
    case Step::Kind::kGate:
      if (gate_open_) return go_on(number);
      at_gate_.push_back(number);
      return;
  }
}

void World::block(std::size_t number) {
  Worker& worker = workers_[number];
  worker.blocked = true;
  give_back_queue(number);
  at(now_ + milliseconds(5), [this, number, &worker, blocks = ++worker.blocks] {
    if (worker.dead || !worker.blocked || worker.blocks != blocks) return;
    worker.told = true;
    send(Link::kWorkerToRaylet, number, [this, number] { on_blocked(number, true); });
  });
}

void World::unblock(std::size_t number) {
  Worker& worker = workers_[number];
  worker.blocked = false;
  if (!std::exchange(worker.told, false)) return;
  send(Link::kWorkerToRaylet, number, [this, number] { on_blocked(number, false); });
}

// The reply may have to wait until references in it are registered; the worker does not.
void World::finish(std::size_t number) {
  Worker& worker = workers_[number];
  Job& job = *worker.running;
  const Nanoseconds time = now_ - worker.began;
  ++worker.held_replies;
  const auto answer = [this, number, &job, time] { reply(number, job, time); };
  if (chance(4) == 0) {
    at(now_ + delay(), answer);
  } else {
    answer();
  }
  const std::uint32_t max_calls = job.record.shape->max_calls;
  if (max_calls > 0 && ++worker.runs >= max_calls) {
    worker.running = nullptr;
    worker.leaving = true;
    give_back_queue(number);
    leave_if_answered(number);
  } else {
    start_next(number);
  }
}

void World::reply(std::size_t number, Job& job, Nanoseconds time) {
  if (workers_[number].dead) return;
  --workers_[number].held_replies;
  send(Link::kWorkerToOwner, number, [this, number, &job, time] { on_reply(number, job, time); });
  leave_if_answered(number);
}

void World::leave_if_answered(std::size_t number) {
  const Worker& worker = workers_[number];
  if (!worker.leaving || worker.held_replies > 0) return;
  give_back(number, GiveBackReason::kLeaving, {});
  end(number);
}

void World::end(std::size_t number) {
  workers_[number].dead = true;
  send(Link::kWorkerToOwner, number, [this, number] { on_broken(number); });
  send(Link::kWorkerToRaylet, number, [this, number] { on_died(number); });
}

// ---- the raylet ----

bool World::somebody_waits() const {
  return !strangers_.empty() ||
         std::ranges::any_of(demands_, [](const auto& known) { return known.second.wanted > 0; });
}

void World::settle() {
  std::map<std::uint64_t, std::vector<std::pair<LeaseId, std::size_t>>> grants;
  while (free_cpus_ > 0 && somebody_waits()) {
    if (!strangers_.empty() && chance(2) == 0) {
      --free_cpus_;
      at(now_ + strangers_.front(), [this] {
        ++free_cpus_;
        settle();
      });
      strangers_.pop_front();
    } else if (!grant_one(grants)) {
      break;
    }
  }
  const bool poor = free_cpus_ <= 0 && somebody_waits();
  for (auto& [key, granted] : grants) {
    News news{.class_key = key, .granted = std::move(granted), .others_wait = poor};
    send(Link::kRayletToOwner, 0, [this, news] { tell_policy(news); });
  }
  if (!grants.empty()) owner_unasked_ = !poor;
  if (!poor || leases_.empty() || !std::exchange(owner_unasked_, false)) return;
  // Whether the stranger has less than its fair share is a matter of more jobs than this world has.
  const std::uint32_t excess = strangers_.empty() ? 0 : chance(3);
  send(Link::kRayletToOwner, 0, [this, excess] { tell_policy({.others_wait = true, .excess = excess}); });
}

// To the most urgent class; false when there is none, or its worker has to be started first.
bool World::grant_one(std::map<std::uint64_t, std::vector<std::pair<LeaseId, std::size_t>>>& grants) {
  std::vector<std::uint64_t> urgent;
  for (const auto& [key, demand] : demands_) {
    if (demand.wanted == 0) continue;
    if (!urgent.empty() && demands_[urgent[0]].priority < demand.priority) urgent.clear();
    if (urgent.empty() || demands_[urgent[0]].priority == demand.priority) urgent.push_back(key);
  }
  if (urgent.empty()) return !strangers_.empty();
  if (idle_workers_.empty()) {
    if (static_cast<std::int64_t>(starting_) >= free_cpus_) return false;
    ++starting_;
    at(now_ + between(milliseconds(3), milliseconds(40)), [this] {
      --starting_;
      const std::size_t worker = workers_.size();
      by_worker_[workers_.emplace_back().id] = worker;
      idle_workers_.push_back(worker);
      settle();
    });
    return false;
  }
  const std::uint64_t key = urgent[chance(static_cast<std::uint32_t>(urgent.size()))];
  --demands_[key].wanted;
  --free_cpus_;
  leases_[++last_lease_] = {idle_workers_.back()};
  grants[key].emplace_back(last_lease_, idle_workers_.back());
  idle_workers_.pop_back();
  return true;
}

void World::release(LeaseId id, bool worker_lives) {
  const RayletLease lease = leases_.at(id);
  leases_.erase(id);
  if (!lease.lent) ++free_cpus_;
  if (worker_lives) idle_workers_.push_back(lease.worker);
}

void World::on_returned(LeaseId id, bool worker_lives) {
  if (leases_.contains(id)) release(id, worker_lives);
  settle();
}

void World::on_blocked(std::size_t worker, bool blocked) {
  for (auto& [id, lease] : leases_) {
    if (lease.worker != worker || lease.lent == blocked) continue;
    lease.lent = blocked;
    free_cpus_ += blocked ? 1 : -1;
  }
  settle();
}

void World::on_died(std::size_t worker) {
  std::erase(idle_workers_, worker);
  const auto held =
      std::ranges::find_if(leases_, [=](const auto& one) { return one.second.worker == worker; });
  if (held != leases_.end()) {
    const LeaseId id = held->first;
    release(id, false);
    send(Link::kRayletToOwner, 0, [this, id] { tell_policy({.lost = id}); });
  }
  settle();
}

// ---- the tests ----

namespace {

// A program of a seed: classes, bursts of tasks, some of them endless, and what else happens on the node.
class Program {
 public:
  explicit Program(std::uint32_t seed)
      : dice_(seed),
        endless_(dice_() % 3),
        world_(seed, static_cast<std::int64_t>(endless_ + 1 + dice_() % 3)) {
    for (std::uint32_t i = 0; i < 1 + world_.chance(3); ++i) {
      const std::uint32_t max_calls = world_.chance(5) == 0 ? 1 + world_.chance(20) : 0;
      classes_.push_back(
          {world_.add_class(max_calls, static_cast<std::int32_t>(world_.chance(2))),
           world_.between(microseconds(5), microseconds(400)) * (world_.chance(3) == 0 ? 50 : 1)});
    }
    std::vector<Job*> jobs;
    for (std::uint32_t i = 0; i < 20 + world_.chance(150); ++i) jobs.push_back(&add_job(false));
    submit_in_bursts(jobs);
    add_company();
  }

  World& world() { return world_; }

 private:
  struct Class {
    std::shared_ptr<TaskTemplate> shape;
    Nanoseconds typical;
  };

  Job& add_job(bool endless) {
    const Class& cls = classes_[world_.chance(static_cast<std::uint32_t>(classes_.size()))];
    std::vector<Step> steps;
    // A function to be loaded, an argument to be fetched: short for the most part.
    if (world_.chance(endless ? 2 : 6) == 0) {
      const Nanoseconds most = world_.chance(4) == 0 ? milliseconds(20) : milliseconds(1);
      steps.push_back({Step::Kind::kBlock, world_.between(microseconds(50), most)});
    }
    steps.push_back({Step::Kind::kWork, world_.between(microseconds(1), 2 * cls.typical)});
    if (endless) steps.push_back({Step::Kind::kGate});
    Job& job = world_.make_job(cls.shape, std::move(steps));
    job.endless = endless;
    return job;
  }

  // Those that wait for another task wait for a later one, so that there is always one that can go on.
  void submit_in_bursts(std::vector<Job*>& jobs) {
    for (std::size_t i = 0; i + 1 < jobs.size(); ++i) {
      if (world_.chance(15) != 0) continue;
      const std::size_t later = i + 1 + world_.chance(static_cast<std::uint32_t>(jobs.size() - i - 1));
      jobs[i]->steps.insert(jobs[i]->steps.begin(), {Step::Kind::kAwait, Nanoseconds(0), later});
    }
    for (std::uint32_t i = 0; i < endless_; ++i) {
      jobs.insert(jobs.begin() + world_.chance(static_cast<std::uint32_t>(jobs.size())), &add_job(true));
    }
    TimePoint when = world_.now();
    for (Job* job : jobs) {
      when += world_.chance(12) == 0 ? world_.between(milliseconds(0), milliseconds(100))
                                     : world_.between(microseconds(2), microseconds(40));
      world_.at(when, [this, job] { world_.submit(*job); });
    }
  }

  void add_company() {
    for (std::uint32_t i = world_.chance(4); i > 0; --i) {
      world_.at(world_.now() + world_.between(milliseconds(0), milliseconds(500)),
                [this] { world_.add_stranger(world_.between(milliseconds(1), milliseconds(100))); });
    }
    if (world_.chance(3) != 0) return;
    for (std::uint32_t i = 1 + world_.chance(3); i > 0; --i) {
      world_.at(world_.now() + world_.between(milliseconds(0), milliseconds(500)),
                [this] { world_.kill_somebody(); });
    }
  }

  std::mt19937 dice_;
  std::uint32_t endless_;
  World world_;
  std::vector<Class> classes_;
};

TEST(SchedulingSimulationTest, WhatIsNotEndlessEndsAndEveryLeaseGoesBack) {
  for (std::uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Program program(seed);
    World& world = program.world();
    ASSERT_TRUE(world.run_until([&] { return world.all_done(false); }, seconds(120))) << world.describe();
    world.open_gate();
    ASSERT_TRUE(world.run_until([&] { return world.all_done(true); }, seconds(60))) << world.describe();
    ASSERT_TRUE(world.run_until([&] { return world.at_rest(); }, seconds(60))) << world.describe();
  }
}

}  // namespace
}  // namespace aktis::core::simulation
