// A simulated cluster around reference tables: processes with variables, tasks and objects, and a network
// that keeps order between two processes and nothing else. Verbs do one atomic step of one process; deliver()
// moves one message. Every step is checked against the oracle and the table's own invariants.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/references.h"
#include "references_lineage.h"
#include "references_oracle.h"
#include "references_processes.h"

namespace aktis::testing {

// The protocol or the table broke a promise; what() tells the story.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class World {
 public:
  explicit World(int processes, Sabotage sabotage = Sabotage::kNone)
      : oracle(processes), processes_(processes), sabotage_(sabotage) {
    for (int i = 0; i < processes; ++i) {
      Process& process = processes_[i];
      process.id.data[0] = static_cast<std::uint8_t>(i + 1);
      process.table = std::make_unique<ReferenceTable>(process.id);
      process.lineage = std::make_unique<core::Lineage>(*process.table, std::size_t{1} << 30);
    }
  }

  Oracle oracle;
  bool tracing = false;
  // Who runs a lost or given-back attempt again; -1: nobody.
  std::function<int(int caller)> choose_executor = [](int) { return -1; };
  // How many of a dying process's last messages still arrive.
  std::function<std::size_t(std::size_t)> choose_survivors = [](std::size_t queued) { return queued; };

  int size() const { return static_cast<int>(processes_.size()); }
  Process& process(int p) { return processes_[p]; }
  ReferenceTable& table(int p) { return *processes_[p].table; }

  // --- Programs ------------------------------------------------------------------------------------------

  // put(): a new object that contains `contents`, all held by p.
  ObjectId put(int p, Context context, const std::vector<ObjectId>& contents = {}) {
    const ObjectId id = ObjectId::of(next_task(), ObjectId::kPutBit);
    trace(p, "put", id);
    oracle.create(id, p);
    oracle.object(id).contents = oracle.object(id).counted = contents;
    handles(p, context).push_back(id);
    table(p).add_owned(id);
    if (sabotage_ != Sabotage::kNoContents) table(p).set_contained(id, contents);
    act(p);
    return id;
  }

  // f.remote(args): pushed to each of `executors` (more than one: speculation). Handles of the results go to
  // the context.
  std::vector<ObjectId> submit(int p, Context context, const std::vector<int>& executors,
                               const std::vector<ObjectId>& args, std::uint32_t num_results = 1) {
    const TaskId id = next_task();
    Task& task = processes_[p].tasks[id];
    task.args = args;
    for (std::uint32_t index = 0; index < num_results; ++index) {
      const ObjectId result = ObjectId::of(id, index);
      trace(p, "submit", result);
      oracle.create(result, p);
      table(p).add_owned(result);
      handles(p, context).push_back(result);
      task.results.push_back(result);
      task.records.insert(result);
    }
    for (const int executor : executors) push(p, id, executor);
    act(p);
    return task.results;
  }

  // The value of a finished task's result is lost: runs it again, and before it what made freed arguments.
  // False when it cannot be done.
  bool recompute(int p, const TaskId& id, int executor) {
    Process& process = processes_[p];
    const auto& results = process.tasks.at(id).results;
    const auto lost = std::find_if(results.begin(), results.end(),
                                   [&](const ObjectId& result) { return !oracle.object(result).freed; });
    if (lost == results.end() || !process.tasks.at(id).done) return false;
    const core::Recovery recovery = plan_recovery(process, *lost);
    if (!recovery.problem.empty() && !may_fail(recovery, process, p, oracle)) {
      fail(p, "cannot compute again: " + recovery.problem + ":", *lost);
    }
    if (!recovery.problem.empty() || runs_any(process, recovery.tasks, executor)) return false;
    trace(p, "lost", *lost);
    for (const TaskId& task : recovery.tasks) {
      const auto record =
          process.lineage->take(task, [&](const ObjectId& use) { table(p).add_task_use(use); });
      process.tasks.at(task).done = false;
      push(p, task, executor, record->uses);
    }
    const ObjectId missing = come_back(process, p, oracle, recovery.revived);
    if (!missing.is_nil()) fail(p, "did not keep what its value contains:", missing);
    act(p);
    return true;
  }

  // get(outer), then handles for all references in the value. False when the value can not be read.
  bool get(int p, Context context, const ObjectId& outer) {
    if (!oracle.readable(outer)) return false;
    for (const ObjectId& inner : oracle.object(outer).contents) {
      trace(p, "get", inner);
      if (oracle.owner(outer) != p) {
        oracle.arrive(p, inner, {{p, outer}, {oracle.owner(outer), inner}});
      }
      handles(p, context).push_back(inner);
      table(p).add_borrowed(inner, owner_id(inner), Cover::by_object(outer));
      act(p);
    }
    return true;
  }

  void copy(int p, Context to, const ObjectId& id) {
    trace(p, "copy", id);
    handles(p, to).push_back(id);
    table(p).add_local(id);
    act(p);
  }

  void drop(int p, Context context, const std::vector<ObjectId>& ids) {
    for (const ObjectId& id : ids) {
      trace(p, "drop", id);
      auto& from = handles(p, context);
      from.erase(std::find(from.begin(), from.end(), id));
    }
    table(p).remove_local(ids);
    act(p);
  }

  // Pickled outside Aktis.
  void pin(int p, const ObjectId& id) {
    trace(p, "pin", id);
    processes_[p].pinned.push_back(id);
    table(p).pin_forever(id);
    act(p);
  }

  // Loaded from a plain pickle: nobody vouches for it.
  void load(int p, const ObjectId& id) {
    trace(p, "load", id);
    oracle.arrive(p, id, {});
    handles(p, kState).push_back(id);
    table(p).add_borrowed(id, owner_id(id), Cover::none());
    act(p);
  }

  // The task returns; result i contains contents[i]. Its frame goes; its reply goes as soon as it may.
  void finish(int p, std::uint64_t attempt, const std::vector<std::vector<ObjectId>>& contents = {},
              bool given_back = false) {
    Run& run = processes_[p].runs.at(attempt);
    trace(p, "finish", run.results.empty() ? ObjectId{} : run.results[0]);
    Message reply{
        .kind = Message::Kind::kReply, .attempt = attempt, .task = run.task, .given_back = given_back};
    std::vector<ObjectId> held;
    for (std::size_t i = 0; i < contents.size(); ++i) {
      for (const ObjectId& inner : contents[i]) {
        reply.refs.push_back({run.results[i], inner, owner_id(inner)});
        held.push_back(inner);
      }
    }
    if (sabotage_ != Sabotage::kNoReturnHold) {
      reply.hold = table(p).hold_return(processes_[run.caller].id, held);
      if (reply.hold != 0) processes_[p].holds[reply.hold] = {run.caller, held};
    }
    const std::vector<ObjectId> frame = std::exchange(run.handles, {});
    table(p).remove_local(frame);
    act(p);
    run.reply = reply;
    if (table(p).end_task(run.task) || sabotage_ == Sabotage::kReplyBeforeAck) send_reply(p, attempt);
    act(p);
  }

  void crash(int p) {
    trace(p, "crash", {});
    oracle.crash(p);
    for (int other = 0; other < size(); ++other) {
      if (other == p) continue;
      queues_[{other, p}].clear();
      auto& last_words = queues_[{p, other}];
      last_words.resize(choose_survivors(last_words.size()));
      if (oracle.alive(other)) last_words.push_back({.kind = Message::Kind::kLost});
    }
  }

  // --- Network -------------------------------------------------------------------------------------------

  std::vector<std::pair<int, int>> pending() const {
    std::vector<std::pair<int, int>> pairs;
    for (const auto& [pair, queue] : queues_) {
      if (!queue.empty()) pairs.push_back(pair);
    }
    return pairs;
  }

  // One message, if there is any; `position` other than 0 breaks the order of the pair.
  bool deliver(int from, int to, std::size_t position = 0) {
    auto& queue = queues_[{from, to}];
    if (queue.empty()) return false;
    auto chosen = queue.begin() + static_cast<std::ptrdiff_t>(position % queue.size());
    if (chosen->kind == Message::Kind::kLost) chosen = queue.begin();  // nothing comes after a death
    const Message message = std::move(*chosen);
    queue.erase(chosen);
    if (!oracle.alive(to)) return true;
    switch (message.kind) {
      case Message::Kind::kProtocol:
        on_protocol(from, to, message.action);
        break;
      case Message::Kind::kPush:
        on_push(from, to, message);
        break;
      case Message::Kind::kReply:
        on_reply(from, to, message);
        break;
      case Message::Kind::kLost:
        on_lost(from, to);
        break;
    }
    act(to);
    return true;
  }

  std::size_t queued(int from, int to) { return queues_[{from, to}].size(); }

  void deliver_all() {
    for (auto pairs = pending(); !pairs.empty(); pairs = pending()) {
      for (const auto& [from, to] : pairs) deliver(from, to);
    }
  }

  // With all tasks over and all messages delivered, nobody may depend on anybody but the owners (R2, R10),
  // but for what is lost.
  void check_self_reliance() {
    settle_all([this](int p) { return finish_all(p); });
    for (int p = 0; p < size(); ++p) {
      if (!oracle.alive(p)) continue;
      for (const Hold& hold : holds_of(processes_[p], p, oracle)) {
        const bool lost = table(p).counts(hold.second).state == references::State::kLost;
        if (!lost && !oracle.self_reliant(hold)) fail(p, "depends on others for", hold.second);
      }
    }
  }

  // --- The end -------------------------------------------------------------------------------------------

  // Everything is dropped, every task ends, every message arrives: then nothing may be left.
  void wind_up() {
    for (int p = 0; p < size(); ++p) {
      if (oracle.alive(p) && !processes_[p].pinned.empty()) crash(p);
    }
    choose_executor = [](int) { return -1; };
    drain();
    // References in a circle are kept, as the design says, until one of their owners dies.
    for (ObjectId id = oracle.on_cycle(); !id.is_nil(); id = oracle.on_cycle()) {
      crash(oracle.owner(id));
      drain();
    }
    for (int p = 0; p < size(); ++p) {
      if (!oracle.alive(p)) continue;
      if (!table(p).idle()) fail(p, "remembers something of", first_left(p));
      if (!processes_[p].lineage->idle()) fail(p, "keeps lineage that nobody needs", {});
    }
    for (const auto& [id, object] : oracle.objects()) {
      if (!object.freed && oracle.alive(object.owner)) fail(object.owner, "never freed", id);
    }
  }

  const std::string& story() const { return story_; }

  // The attempt of the task that makes `result`, as it runs at p.
  std::uint64_t running(int p, const ObjectId& result) {
    for (const auto& [attempt, run] : processes_[p].runs) {
      if (run.task == result.task()) return attempt;
    }
    throw std::out_of_range("no such task runs at P" + std::to_string(p));
  }

 private:
  TaskId next_task() {
    TaskId id;
    const std::uint64_t number = ++tasks_;
    std::memcpy(id.data + 8, &number, sizeof number);
    return id;
  }

  WorkerId owner_id(const ObjectId& id) { return processes_[oracle.owner(id)].id; }
  static int index(const WorkerId& id) { return id.data[0] - 1; }

  std::vector<ObjectId>& handles(int p, Context context) {
    return context == kState ? processes_[p].state : processes_[p].runs.at(context).handles;
  }

  void push(int p, const TaskId& id, int executor) {
    const auto& args = processes_[p].tasks.at(id).args;
    for (const ObjectId& arg : args) table(p).add_task_use(arg);
    push(p, id, executor, args);
  }

  // With the uses of this attempt, which are counted already.
  void push(int p, const TaskId& id, int executor, const std::vector<ObjectId>& uses) {
    const std::uint64_t attempt = ++attempts_;
    processes_[p].attempts[attempt] = {id, executor, uses};
    const auto& args = processes_[p].tasks.at(id).args;
    send(p, executor, {.kind = Message::Kind::kPush, .attempt = attempt, .task = id, .args = args});
  }

  void send(int from, int to, Message message) {
    if (oracle.alive(to)) queues_[{from, to}].push_back(std::move(message));
  }

  void send_reply(int p, std::uint64_t attempt) {
    Run& run = processes_[p].runs.at(attempt);
    if (!processes_[p].known_dead.contains(run.caller)) send(p, run.caller, *run.reply);
    processes_[p].runs.erase(attempt);
  }

  void on_protocol(int from, int to, const ReferenceAction& action) {
    trace(to, "from P" + std::to_string(from) + " " + name(action.kind), action.object);
    if (action.kind == ReferenceAction::Kind::kSendReturnRelease)
      processes_[to].holds.erase(action.generation);
    if (!receive(table(to), processes_[from].id, action)) {
      fail(to, "received an action that is no message", action.object);
    }
  }

  void on_push(int from, int to, const Message& message) {
    Run& run = processes_[to].runs[message.attempt];
    run.task = message.task;
    run.caller = from;
    run.results = processes_[from].tasks.at(message.task).results;
    for (const ObjectId& arg : message.args) {
      trace(to, "argument", arg);
      oracle.arrive(to, arg, {{from, arg}});
      run.handles.push_back(arg);
      table(to).add_borrowed(arg, owner_id(arg), Cover::by_task(run.task, processes_[from].id));
    }
  }

  void on_reply(int from, int to, const Message& message) {
    trace(to, "reply from P" + std::to_string(from), ObjectId::of(message.task, 0));
    Process& caller = processes_[to];
    Attempt attempt = caller.attempts.extract(message.attempt).mapped();
    Task& task = caller.tasks.at(message.task);
    const bool too_early = sabotage_ == Sabotage::kUsesBeforeAdopt && !message.given_back;
    if (too_early) end_attempt(to, attempt);
    if (message.given_back) {
      retry(to, message.task);
    } else if (task.done) {
      table(to).adopt_return(processes_[from].id, message.hold, {});
    } else {
      task.done = true;
      adopt(from, to, message);
      if (sabotage_ == Sabotage::kRecordAfterUses) end_attempt(to, std::exchange(attempt, {}));
      keep_record(caller, message.task, task, sabotage_);
    }
    if (!too_early) end_attempt(to, attempt);
    if (sabotage_ == Sabotage::kOneUsePerTask) end_other_attempts(to, message.task);
  }

  void adopt(int from, int to, const Message& message) {
    for (const ObjectId& result : processes_[to].tasks.at(message.task).results) {
      oracle.object(result).contents.clear();
    }
    for (const ReturnedRef& ref : message.refs) {
      TrueObject& outer = oracle.object(ref.outer);
      if (outer.freed || ref.inner == ref.outer) continue;
      outer.contents.push_back(ref.inner);
      outer.counted.push_back(ref.inner);
      oracle.arrive(to, ref.inner, {{from, ref.inner}});
    }
    const bool early = sabotage_ == Sabotage::kReleaseReturnEarly && message.hold != 0;
    table(to).adopt_return(processes_[from].id, early ? 0 : message.hold, message.refs);
    if (!early) return;
    ReferenceAction release;
    release.kind = ReferenceAction::Kind::kSendReturnRelease;
    release.generation = message.hold;
    send(to, from, {.kind = Message::Kind::kProtocol, .action = release});
  }

  void end_attempt(int p, const Attempt& attempt) { table(p).remove_task_use(attempt.uses); }

  void end_other_attempts(int p, const TaskId& task) {
    for (auto& [number, attempt] : processes_[p].attempts) {
      if (attempt.task == task) table(p).remove_task_use(std::exchange(attempt.uses, {}));
    }
  }

  void retry(int p, const TaskId& id) {
    Task& task = processes_[p].tasks.at(id);
    if (task.done) return;
    for (const auto& [number, attempt] : processes_[p].attempts) {
      if (attempt.task == id) return;  // another attempt is under way
    }
    const int executor = choose_executor(p);
    if (executor < 0) {
      task.done = task.failed = true;
    } else {
      push(p, id, executor);
    }
  }

  void on_lost(int from, int to) {
    trace(to, "lost P" + std::to_string(from), {});
    Process& process = processes_[to];
    process.known_dead.insert(from);
    std::erase_if(process.holds, [&](const auto& item) { return item.second.first == from; });
    table(to).on_process_lost(process_id(from));
    act(to);
    std::vector<Attempt> lost;
    std::erase_if(process.attempts, [&](const auto& item) {
      if (item.second.executor == from) lost.push_back(item.second);
      return item.second.executor == from;
    });
    for (const Attempt& attempt : lost) {
      retry(to, attempt.task);
      end_attempt(to, attempt);
    }
  }

  const WorkerId& process_id(int p) const { return processes_[p].id; }

  // Delivers everything and lets each process act, until no process has anything to do.
  template <typename Act>
  void settle_all(Act act_of) {
    for (bool busy = true; busy;) {
      deliver_all();
      busy = false;
      for (int p = 0; p < size(); ++p) busy |= oracle.alive(p) && act_of(p);
    }
  }

  void drain() {
    settle_all([this](int p) { return let_go(p); });
  }

  // Drops all that p holds and ends all that runs there. False when there was nothing to do.
  bool let_go(int p) {
    Process& process = processes_[p];
    bool busy = !process.state.empty();
    const auto state = process.state;
    drop(p, kState, state);
    return finish_all(p) || busy;
  }

  // Ends all that runs at p, without results.
  bool finish_all(int p) {
    std::vector<std::uint64_t> running;
    for (const auto& [attempt, run] : processes_[p].runs) {
      if (!run.reply) running.push_back(attempt);
    }
    for (const std::uint64_t attempt : running) finish(p, attempt);
    return !running.empty();
  }

  ObjectId first_left(int p) {
    const auto ids = table(p).ids();
    return ids.empty() ? ObjectId{} : ids.front();
  }

  // --- Checks --------------------------------------------------------------------------------------------

  std::vector<Hold> all_holds() {
    std::vector<Hold> holds;
    for (int p = 0; p < size(); ++p) {
      if (!oracle.alive(p)) continue;
      const auto some = holds_of(processes_[p], p, oracle);
      holds.insert(holds.end(), some.begin(), some.end());
    }
    return holds;
  }

  // Carries out what the table of p asks for.
  void act(int p) {
    try {
      table(p).validate();
    } catch (const std::logic_error& error) {
      fail(p, error.what(), {});
    }
    for (auto actions = table(p).take_actions(); !actions.empty(); actions = table(p).take_actions()) {
      for (const ReferenceAction& action : actions) act(p, action);
    }
  }

  void act(int p, const ReferenceAction& action) {
    using Kind = ReferenceAction::Kind;
    trace(p, "-> " + name(action.kind), action.object);
    switch (action.kind) {
      case Kind::kFreeObject:
        return on_free(p, action);
      case Kind::kLineageDroppable:
        return on_lineage_droppable(p, action.object);
      case Kind::kReleaseBorrowed:
        return on_released(p, action.object);
      case Kind::kObjectOwnerDied:
        if (oracle.alive(oracle.owner(action.object))) fail(p, "gave up a living owner of", action.object);
        return;
      case Kind::kObjectLost:
        return on_object_lost(p, action.object);
      case Kind::kTaskEndable:
        return on_task_endable(p, action.task);
      default:
        return on_send(p, action);
    }
  }

  void on_send(int p, const ReferenceAction& action) {
    using Kind = ReferenceAction::Kind;
    const int to = index(action.peer);
    if (processes_[p].known_dead.contains(to)) fail(p, "sends a message to the dead about", action.object);
    if (action.kind == Kind::kSendBorrowAdd) oracle.adding(p, action.object, action.generation);
    if (action.kind == Kind::kSendBorrowAck) oracle.registered(to, action.object, action.generation);
    if (action.kind == Kind::kSendBorrowNack && oracle.promised(to, action.object, action.generation)) {
      fail(p, "refuses a borrower that was promised", action.object);
    }
    send(p, to, {.kind = Message::Kind::kProtocol, .action = action});
  }

  void on_free(int p, const ReferenceAction& action) {
    const ObjectId id = action.object;
    for (const Hold& hold : oracle.reachable(all_holds())) {
      if (hold.second == id) fail(p, "frees what P" + std::to_string(hold.first) + " holds:", id);
    }
    if (oracle.object(id).freed) fail(p, "frees again", id);
    oracle.object(id).freed = true;
    if (!action.lineage_kept) return on_lineage_droppable(p, id);
    if (is_small(id)) processes_[p].lineage->keep_value(id, some_value());
  }

  void on_lineage_droppable(int p, const ObjectId& id) {
    const auto task = processes_[p].tasks.find(id.task());
    if (task != processes_[p].tasks.end() && task->second.records.erase(id) == 0) {
      fail(p, "drops again the lineage of", id);
    }
    processes_[p].lineage->object_gone(id);
  }

  void on_released(int p, const ObjectId& id) {
    for (const Hold& hold : holds_of(processes_[p], p, oracle)) {
      if (hold.second == id) fail(p, "forgets what it holds:", id);
    }
    for (const auto& [outer, object] : oracle.objects()) {
      if (object.owner != p || object.freed) continue;
      for (const ObjectId& inner : object.contents) {
        if (inner == id) fail(p, "forgets what its object contains:", id);
      }
    }
    oracle.released(p, id);
  }

  void on_object_lost(int p, const ObjectId& id) {
    if (oracle.owner(id) != p && oracle.secure({p, id})) fail(p, "lost", id);
    // Our own has come back and its lineage is still there.
    if (table(p).is_owned(id)) come_back(processes_[p], p, oracle, {id});
  }

  void on_task_endable(int p, const TaskId& task) {
    for (const auto& [attempt, run] : processes_[p].runs) {
      if (run.task == task && run.reply) return send_reply(p, attempt);
    }
    if (sabotage_ != Sabotage::kReplyBeforeAck) fail(p, "ends a task that is not ending", {});
  }

  [[noreturn]] void fail(int p, const std::string& what, const ObjectId& id) {
    throw Violation("P" + std::to_string(p) + " " + what + " " + name(id));
  }

  // --- Story ---------------------------------------------------------------------------------------------

  void trace(int p, const std::string& what, const ObjectId& id) {
    if (tracing) story_ += "P" + std::to_string(p) + " " + what + " " + name(id) + "\n";
  }

  std::vector<Process> processes_;
  std::map<std::pair<int, int>, std::deque<Message>> queues_;
  Sabotage sabotage_;
  std::uint64_t tasks_ = 0;
  std::uint64_t attempts_ = 0;
  std::string story_;
};

}  // namespace aktis::testing
