// Processes without Python for tests: each a Core with its socket, a service thread that decides what
// Python's would, and threads that run tasks. All live in the test's process, so that sanitizers see both
// ends.
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/core.h"
#include "tests/wire_test_support.h"

namespace aktis::core::testing {

using namespace std::chrono_literals;

inline constexpr auto kLimit = 30s;   // of every wait; sanitizers are slow
inline constexpr auto kSlice = 50ms;  // after which a task that waits looks whether its process ends
inline constexpr const char* kError = "error";

inline wire::TimePoint soon(wire::Clock::duration time = kLimit) { return wire::Clock::now() + time; }
inline Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
inline std::string text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::string text_of_value(Bytes value) {
  const auto view = parse_value(value);
  if (!view) return "not a value";
  return (view->kind == ValueKind::kError ? "error: " : "") + text_of(view->inband);
}

// A gate that threads of this process wait at without using a core.
class Gate {
 public:
  void open() {
    const std::lock_guard guard(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    arrive();
    is_open(kLimit);
  }
  void arrive() {
    const std::lock_guard guard(mutex_);
    ++waiting_;
    changed_.notify_all();
  }
  bool is_open(wire::Clock::duration time) {
    std::unique_lock guard(mutex_);
    return changed_.wait_for(guard, time, [&] { return open_; });
  }
  bool wait_for(int waiting) {
    std::unique_lock guard(mutex_);
    return changed_.wait_for(guard, kLimit, [&] { return waiting_ >= waiting; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

class Process {
 public:
  using Function = std::function<ResultParts(Process&, const TaskHandle&)>;
  using Functions = std::map<std::string, Function, std::less<>>;

  explicit Process(const std::string& directory, wire::Role role = wire::Role::kWorker,
                   const CoreLimits& limits = {}, const std::string& raylet = {})
      : core_(std::make_shared<Core>(config(role, raylet))) {
    core_->set_identity(NodeId::random(), JobId::random());
    core_->set_limits(limits);
    address_ = core_->listen(directory);
    if (!raylet.empty()) core_->connect_raylet(soon());
    service_ = std::thread([this] { serve(); });
  }
  ~Process() { end(); }

  // As if it were killed: connections close, nothing is said.
  void end() {
    if (ended_.exchange(true)) return;
    core_->post_wake();
    core_->set_accepting(true);  // wakes the executors
    ::eventfd_write(end_event_.get(), 1);
    service_.join();
    for (auto& executor : executors_) executor.join();
    core_->close();
  }

  Core& core() { return *core_; }
  Core* operator->() { return core_.get(); }
  const WorkerId& id() const { return core_->self(); }
  const std::string& address() const { return address_; }

  // ---- as an executor ----

  void run_tasks(const Functions& functions, int threads = 1) {
    for (int i = 0; i < threads; ++i) executors_.emplace_back([this, &functions] { execute(functions); });
  }
  // Like an async actor's event loop: a thread that watches the descriptor and runs what it finds.
  void watch_tasks(const Functions& functions);

  static ResultParts result(std::string_view text) {
    ResultParts parts;
    parts.value = OwnedValue::make(ValueKind::kPickle, bytes_of(text), {});
    parts.size_bytes = parts.value->view().size();
    return parts;
  }
  static std::string args_of(const TaskHandle& task) { return text_of_value(task->message.args); }
  void run(const TaskHandle& task, const Functions& functions) {
    core_->begin_execution(task);
    running_task = task;
    struct Done {
      ~Done() { running_task = nullptr; }
    } const done;
    std::vector<ResultParts> results(1);
    const auto function = functions.find(task->message.name);
    if (function == functions.end()) {
      results[0].value = OwnedValue::make(ValueKind::kError, bytes_of("unknown"), {});
      core_->finish(task, TaskStatus::kError, std::move(results), "unknown");
      return;
    }
    results[0] = function->second(*this, task);
    if (ended_) return;  // a dead process answers nothing, whatever its waits returned
    const auto view = parse_value(results[0].value ? results[0].value->view() : Bytes{});
    const bool failed = view && view->kind == ValueKind::kError;
    ++ran;
    core_->finish(task, failed ? TaskStatus::kError : TaskStatus::kOk, std::move(results), {});
    for (const ObjectId& id : std::exchange(results_hold, {})) drop(id);
  }
  // In a task: false when this process ends first.
  bool waits_for(Gate& gate) {
    gate.arrive();
    while (!gate.is_open(kSlice)) {
      if (ended_) return false;
    }
    return true;
  }
  // What the calling thread executes.
  static inline thread_local TaskHandle running_task;
  // References that a function's result contains: held until the reply counts them.
  static inline thread_local std::vector<ObjectId> results_hold;

  // ---- as an owner ----

  struct Call {
    std::string function;
    std::string args;
    std::vector<ObjectId> references{};  // arguments of their own
    std::vector<ObjectId> nested{};      // inside of args
    ActorId actor{};
    std::uint64_t class_key = 1;
    std::int32_t max_retries = 3;
    double speculative = 0;
  };
  ObjectId submit(const Call& call) {
    Core::Submission submission;
    auto shape = std::make_shared<TaskTemplate>();
    shape->class_key = call.actor.is_nil() ? call.class_key : 0;
    shape->kind = call.actor.is_nil() ? TaskKind::kNormal : TaskKind::kActorMethod;
    shape->name = call.function;
    shape->max_retries = call.max_retries;
    shape->speculative = call.speculative;
    shape->finish();
    submission.shape = std::move(shape);
    submission.actor = call.actor;
    if (running_task) submission.parent = running_task->message.id;
    for (const ObjectId& id : call.references) {
      submission.arguments.push_back(
          {.position = kKeywordPosition, .keyword = "x", .ref = core_->ref_of(id)});
    }
    submission.nested = call.nested;
    submission.args = OwnedValue::make(ValueKind::kPickle, bytes_of(call.args), {});
    return core_->submit(std::move(submission)).at(0);
  }
  ObjectId put(std::string_view text) {
    const ObjectId id = core_->next_put_id();
    core_->put(id, {.inband = bytes_of(text), .buffers = {}, .nested = {}}, waiting());
    return id;
  }
  WaitFor waiting() {
    return [this](wire::Waiter& waiter, wire::TimePoint deadline) {
      Core::BlockScope scope(*core_, running_task);
      return core_->wait(waiter, std::min(deadline, soon()), scope);
    };
  }
  // Its text once it is here; "" when it is not in time.
  std::string get(const ObjectId& id, wire::Clock::duration time = kLimit) {
    WaitGroup group;
    core_->attach(group, std::span(&id, 1), 1, true);
    bool done = group.waiter.completed();
    if (!done) {
      Core::BlockScope scope(*core_, running_task);
      const auto deadline = soon(time);
      while (!done && !ended_ && wire::Clock::now() < deadline) {
        // In one go where nothing can end it, so that a missed wake-up shows.
        done = core_->wait(group.waiter, running_task ? std::min(deadline, soon(kSlice)) : deadline, scope);
      }
    }
    core_->detach(group, std::span(&id, 1));
    const auto value = done ? core_->read(id) : std::nullopt;
    if (!value) return {};
    std::string text = text_of_value(value->bytes);
    if (value->in_plasma) core_->unpin(id);
    return text;
  }
  void drop(const ObjectId& id) { core_->drop_reference(id); }
  std::string get_and_drop(const ObjectId& id) {
    std::string text = get(id);
    drop(id);
    return text;
  }
  void lease(Process& worker, LeaseId id, std::uint64_t class_key = 1) {
    core_->add_lease(class_key, id, worker.id(), worker.address());
  }
  std::int64_t statistic(std::string_view name) {
    for (const auto& [key, value] : core_->statistics()) {
      if (key == name) return value;
    }
    ADD_FAILURE() << "no statistic " << name;
    return -1;
  }
  // Waits, serving nothing itself, until a statistic has a value.
  bool becomes(std::string_view name, std::int64_t value) {
    for (const auto deadline = soon(); wire::Clock::now() < deadline;) {
      if (statistic(name) == value) return true;
      std::unique_lock guard(mutex_);
      changed_.wait_for(guard, 2ms);
    }
    return false;
  }
  // Waits for an event that satisfies `wanted`; every event is kept.
  bool hears(const std::function<bool(const Event&)>& wanted) {
    std::unique_lock guard(mutex_);
    return changed_.wait_for(guard, kLimit, [&] { return std::ranges::any_of(events_, wanted); });
  }
  bool heard(EventKind kind) {
    const std::lock_guard guard(mutex_);
    return std::ranges::any_of(events_, [kind](const Event& event) { return event.kind == kind; });
  }
  bool hears(EventKind kind) {
    return hears([kind](const Event& event) { return event.kind == kind; });
  }

  std::atomic<int> ran{0};
  std::atomic<bool> takes_events{true};  // else the service thread leaves them in the queue
  std::atomic<bool> resubmits_calls{true};

 private:
  static CoreConfig config(wire::Role role, const std::string& raylet) {
    CoreConfig config;
    config.role = role;
    config.worker = WorkerId::random();
    config.token = "secret";
    config.raylet_address = raylet;
    return config;
  }

  void serve() {
    while (!ended_) {
      if (!takes_events) {
        wire::Waiter nobody;
        Core::BlockScope scope(*core_, running_task);
        core_->wait(nobody, soon(kSlice), scope);
        continue;
      }
      for (Event& event : core_->next_events(soon(1s))) {
        decide(event);
        const std::lock_guard guard(mutex_);
        events_.push_back(std::move(event));
        changed_.notify_all();
      }
    }
  }
  // What Python's policies would do.
  void decide(const Event& event) {
    switch (event.kind) {
      case EventKind::kTaskLost: {
        const TaskId task = TaskId::from_bytes(event.first.data());
        const bool is_call = !event.third.empty();
        if (event.number != 0 && (!is_call || resubmits_calls)) {
          core_->resubmit(task, 0ms);
        } else {
          core_->fail_task(task, bytes_of("lost"));
        }
        break;
      }
      case EventKind::kObjectLost: {
        const ObjectId object = ObjectId::from_bytes(event.first.data());
        if (const auto problem = core_->reconstruct(object)) {
          const std::string why = problem->empty() ? event.text : event.text + ": " + *problem;
          core_->fail_object(object, bytes_of(why));
        }
        break;
      }
      default:
        break;
    }
  }
  void execute(const Functions& functions) {
    wire::Waiter waiter;
    while (!ended_) {
      if (TaskHandle task = core_->next_task("", waiter)) {
        run(task, functions);
        continue;
      }
      if (!ended_) {
        Core::BlockScope scope(*core_, running_task);
        core_->wait(waiter, soon(), scope);
      }
      core_->detach_group("", waiter);
      waiter.reset();
    }
  }

  std::shared_ptr<Core> core_;
  std::string address_;
  std::atomic<bool> ended_{false};
  wire::UniqueFd end_event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::thread service_;
  std::vector<std::thread> executors_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Event> events_;
};

}  // namespace aktis::core::testing
