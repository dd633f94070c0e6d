// The runtime core of one driver or worker process: everything that runs per task, per reference or per
// byte. It knows nothing of Python and takes no decision that an operator could want to change: those are
// events for the policy thread (core/events.h), which answers with the verbs below.
//
// Threads. Any thread may call any public method. State is guarded by one mutex, mutex_, held for short
// sections only; frames are queued on connections under it (memory only) and written after it is released.
// The sockets are polled by whoever holds the baton (wire/baton.h). Lock order: GIL, mutex_, connection,
// baton; nothing that holds one of these takes an earlier one.
//
// The implementation is one file per concern: core.cc (life), core_objects.cc (get, put, wait, values),
// core_references.cc (the reference table's actions and messages), core_lineage.cc (lost objects),
// core_free.cc (values let go by hand), core_submit.cc (the owner's side of tasks), core_copies.cc (tasks
// that run twice), core_execute.cc (the executor's side), core_leave.cc (its end), core_timeouts.cc (tasks
// that run for too long), core_peers.cc (connections), core_control.cc (raylet), core_snapshot.cc.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/actor_calls.h"
#include "core/events.h"
#include "core/lineage.h"
#include "core/messages.h"
#include "core/objects.h"
#include "core/references.h"
#include "core/scheduling.h"
#include "core/streams.h"
#include "core/task_bell.h"
#include "core/task_events.h"
#include "core/tasks.h"
#include "core/value.h"
#include "plasma/client.h"
#include "wire/baton.h"
#include "wire/connection.h"
#include "wire/reactor.h"

namespace aktis::core {

struct CoreConfig {
  wire::Role role = wire::Role::kDriver;
  WorkerId worker;
  std::string token;
  std::string raylet_address;
  std::chrono::microseconds linger{1000};
  std::chrono::milliseconds blocked_after{5};
};

// What an operator may set for all processes of a node ([core] of the configuration).
struct CoreLimits {
  std::size_t inline_bytes = 100 << 10;          // larger values live in shared memory
  std::size_t inline_arguments_bytes = 1 << 20;  // of one task together
  std::size_t in_flight_bytes = 1u << 30;        // arguments of unfinished tasks; submit waits beyond
  std::size_t lineage_bytes = 256u << 20;        // records of finished tasks that could run again
  std::size_t control_queue_bytes = 256u << 20;  // messages of the raylet that Python has not seen
  std::size_t stream_bytes = 256u << 20;         // items of one generator that its consumer has not taken
  std::chrono::microseconds spin{50};            // looked for before sleeping, while answers come soon
  std::chrono::milliseconds fetch_timeout{-1};   // of a task's arguments in shared memory; negative: none
  ActorWindow actor_window;
  SchedulingConfig scheduling;
};

// A reply may wait for company for so long when more tasks are queued here, an item for the next ones.
inline constexpr std::chrono::microseconds kReplyCompany{500};

// The process cannot go on as asked: no connection, closed, ... Becomes ConnectionError in Python.
class CoreError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A value finds no room in the object store; what() says who holds what. Becomes ObjectStoreFullError.
class StoreFullError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// How the calling thread waits for the store; false when the time is up. What it throws ends the wait.
using WaitFor = std::function<bool(wire::Waiter&, wire::TimePoint)>;

// What a value consists of before it is stored: a pickle, its out-of-band buffers, the references in it.
struct Parts {
  ValueKind kind = ValueKind::kPickle;
  Bytes inband;
  std::vector<Bytes> buffers;
  std::vector<RefId> nested;
  std::size_t size() const { return value_size(inband.size(), buffers); }
};

// A value at rest, ready to be read: in our memory, or mapped and pinned in shared memory.
struct Readable {
  std::shared_ptr<const OwnedValue> owned;  // null when it is mapped
  Bytes bytes;
  bool in_plasma = false;
  std::shared_ptr<const void> mapping;  // keeps `bytes` mapped, also when the core is closed meanwhile
};

enum class GetStatus { kReady, kTimeout };

struct IncomingTask {
  TaskMessage message;  // views `payload`
  std::vector<std::byte> payload;
  std::shared_ptr<wire::Connection> connection;  // null for a creation task
  WorkerId owner;
  std::int64_t start_unix_ns = 0;
  std::atomic<bool> cancelled{false};
  // Of a streaming generator, guarded by the core's mutex: items sent, items taken by the consumer as far as
  // is known, the thread that waits until more are.
  std::uint32_t streamed = 0;
  std::uint32_t taken = 0;
  bool stream_paused = false;  // the owner has as much as it keeps
  wire::Waiter* stream_waiter = nullptr;
  std::thread::id thread;                        // that executes it
  wire::TimePoint due = wire::TimePoint::max();  // guarded like the above: when it has run for too long
  // Guarded by the core's mutex:
  bool ended = false;  // its reply is on the way; what still runs in its name is a straggler
  int blocked_threads = 0;
  int told_threads = 0;
};
using TaskHandle = std::shared_ptr<IncomingTask>;

// One result of a task that has been executed.
struct ResultParts {
  bool in_plasma = false;
  bool found = false;  // in shared memory already, from an earlier attempt
  std::uint64_t size_bytes = 0;
  std::shared_ptr<const OwnedValue> value;
  std::vector<RefId> nested;
};

class Core : public std::enable_shared_from_this<Core>, private SchedulingOutlet, private ActorOutlet {
 public:
  explicit Core(CoreConfig config);
  ~Core() override;

  // ---- life (core.cc) ----
  void set_identity(const NodeId& node, const JobId& job);
  // Once, before the first object and task: other threads read them without a lock afterwards.
  void set_limits(const CoreLimits& limits);
  const CoreLimits& limits() const { return limits_; }
  void connect_raylet(wire::TimePoint deadline);
  std::string listen(const std::string& sockets_dir);
  void connect_plasma(const std::string& address, wire::TimePoint deadline);
  void close();
  bool closed() const { return closed_.load(); }
  const CoreConfig& config() const { return config_; }
  const WorkerId& self() const { return config_.worker; }
  RefId ref_of(const ObjectId& id);

  // One blocking operation of a thread, over as many wait() calls as it takes. A task that blocks gives the
  // tasks queued behind it back at once, so that pipelining can never deadlock, and after `blocked_after`
  // tells the raylet that its CPU can be lent out; the end of the scope takes that back.
  class BlockScope {
   public:
    // `task`: what waits, null when it is no task.
    BlockScope(Core& core, TaskHandle task);
    ~BlockScope();
    BlockScope(const BlockScope&) = delete;
    BlockScope& operator=(const BlockScope&) = delete;

   private:
    friend class Core;
    Core& core_;
    TaskHandle task_;
    const wire::TimePoint began_;
    bool gave_back_ = false;
    bool told_ = false;
  };
  // For what nearly always comes at once, as the answer of a daemon: waits no longer than `blocked_after` and
  // does not count as blocking.
  bool wait_briefly(wire::Waiter& waiter, wire::TimePoint deadline);
  // Flushes what is queued, then waits on this thread; true when `waiter` is completed.
  bool wait(wire::Waiter& waiter, wire::TimePoint deadline, BlockScope& scope);
  // For an event loop: a descriptor that becomes readable when poll_tasks() has something to do.
  int task_fd();
  void poll_tasks();
  std::vector<Event> next_events(wire::TimePoint deadline);
  // For a thread that belongs to no task: the one that this worker executes; null when it is not a plain one.
  TaskHandle only_task();
  void post_wake() { events_.wake(); }

  // ---- control channel (core_control.cc) ----
  std::uint64_t next_request_id() { return ++last_request_; }
  // A request is sent by begin_call and its answer taken by end_call after waiting on the call's waiter.
  struct Call {
    wire::Waiter waiter;
    std::string answer;
    bool failed = false;
  };
  void begin_call(std::uint64_t request, Bytes message, Call& call);
  void end_call(std::uint64_t request);
  void notify(Bytes message);

  // ---- objects (core_objects.cc) ----
  ObjectId next_put_id();
  // Stores a value; `nested` are counted as contained. Waits for room in the store as long as that allows.
  // Throws StoreFullError, CoreError when the store is gone.
  void put(const ObjectId& id, const Parts& parts, const WaitFor& wait);
  // Attaches `group` to what is not there yet; see WaitGroup. The caller waits, then detaches.
  void attach(WaitGroup& group, std::span<const ObjectId> ids, std::size_t enough, bool values);
  void detach(WaitGroup& group, std::span<const ObjectId> ids);
  bool ready(const ObjectId& id);
  bool readable(const ObjectId& id);
  // Another process's object that does not exist, as far as is known here: its owner will say when it does.
  bool awaits_owner(const ObjectId& id);
  std::vector<bool> ready_flags(std::span<const ObjectId> ids);
  std::optional<Readable> read(const ObjectId& id);
  void note_in_plasma(const ObjectId& id, std::uint32_t copy);
  // True when it is there now; else EVENT_OBJECT_READY comes. `value`: there means that its value can be read
  // here, not only that it exists.
  bool watch(const ObjectId& id, bool value);
  void watch_free(const ObjectId& id);
  ObjectId pending_object();
  void complete_object(const ObjectId& id, const Parts& parts);
  plasma::Client* plasma() { return plasma_.get(); }
  // Pins for buffers that outlive the reference (core/bindings).
  void unpin(const ObjectId& id);

  // ---- lost objects (core_lineage.cc) ----
  // Runs the task that made a lost object of ours again, and before it those that made freed arguments.
  // nullopt: that is under way, or not needed any more. Else why it cannot be done; empty for an object of
  // another owner.
  std::optional<std::string> reconstruct(const ObjectId& id);
  // The object is lost for good: it becomes an error for whoever has not mapped it.
  void fail_object(const ObjectId& id, Bytes error_pickle);

  // ---- freeing (core_free.cc) ----
  // Lets the value go everywhere; whoever gets it from now on gets the error. Of an object that does not
  // exist yet: as soon as it does.
  void free(const ObjectId& id, Bytes error_pickle);

  // ---- references (core_references.cc) ----
  void drop_reference(const ObjectId& id);  // a destructor: any thread, any time
  void add_local(const ObjectId& id);
  void adopt_reference(const RefId& ref, const Cover& cover);
  void pin_forever(const ObjectId& id);

  // ---- submitting (core_submit.cc) ----
  struct Submission {
    std::shared_ptr<const TaskTemplate> shape;
    ActorId actor;
    TaskId parent;
    TraceContext trace;
    std::vector<Argument> arguments;
    std::vector<ObjectId> nested;
    std::shared_ptr<const OwnedValue> args;
  };
  // The ids of the returns, each with one local handle already counted.
  std::vector<ObjectId> submit(Submission submission);
  // Waits while the arguments of unfinished tasks exceed the limit.
  bool has_room() const { return in_flight_bytes_.load(std::memory_order_relaxed) < limits_.in_flight_bytes; }
  void attach_room(wire::Waiter& waiter);
  void detach_room(wire::Waiter& waiter);
  // Nothing when an argument is not there (any more): watch() it and try again.
  std::optional<std::vector<std::byte>> encode_creation(const Submission& submission, const TaskId& task);
  TaskId next_task_id(bool is_call = false);

  void add_lease(std::uint64_t class_key, LeaseId lease, const WorkerId& worker, const std::string& address);
  bool drop_lease(LeaseId lease);
  std::vector<LeaseId> reclaim_leases(std::uint32_t excess);
  void break_lease(LeaseId lease, const std::string& reason);
  std::size_t fail_class(std::uint64_t class_key, Bytes error_pickle, std::string_view text = {});
  void set_infeasible(std::uint64_t class_key, bool infeasible);
  void end_class(std::uint64_t class_key);
  bool resubmit(const TaskId& task, std::chrono::milliseconds delay);
  bool fail_task(const TaskId& task, Bytes error_pickle, std::string_view text = {});  // for task events
  enum class Cancelled : int { kUnknown = 0, kDone = 1, kSent = 2 };
  Cancelled cancel(const TaskId& task, bool recursive, Bytes error_pickle);
  // EVENT_TASK_OVERDUE once more after a while, if this attempt is under way then.
  bool remind(const TaskId& task, std::chrono::milliseconds delay);
  // EVENT_RUN_CALLED_OFF the same.
  void remind_of_called_off(const TaskId& task, std::chrono::milliseconds delay);
  // Asks the owner of another process's object to cancel what makes it; false when it is ours or unknown.
  bool ask_to_cancel(const ObjectId& object, bool force, bool recursive);
  // Where it runs: nowhere, at one place, at two. A call of an actor has the lease 0.
  std::vector<std::pair<WorkerId, LeaseId>> workers_of(const TaskId& task);
  std::vector<TaskId> children_of(const TaskId& task);
  void actor_connect(const ActorId& actor, std::uint64_t incarnation, const WorkerId& worker,
                     const std::string& address);
  void actor_pause(const ActorId& actor);
  std::size_t actor_fail(const ActorId& actor, Bytes error_pickle, std::string_view text = {});
  void actor_set(const ActorId& actor, bool out_of_order);
  std::size_t actor_pending_calls(const ActorId& actor);

  // ---- streaming generators (core_streams.cc) ----
  // The object of the next item, which may have to be waited for; none at the end of the stream.
  std::optional<ObjectId> stream_next(const TaskId& task);
  // Hands over the next item, which exists, with the handle counted for it; none at the end.
  std::optional<ObjectId> stream_take(const TaskId& task);
  bool stream_ended(const TaskId& task);
  void stream_drop(const TaskId& task);  // the consumer is gone: any thread, any time
  void send_item(const TaskHandle& task, ResultParts item);
  // Whether the executor may go on; else `waiter` is completed when it may.
  bool attach_stream_room(const TaskHandle& task, wire::Waiter& waiter);
  void detach_stream_room(const TaskHandle& task);

  // ---- executing (core_execute.cc) ----
  void set_groups(const std::vector<std::string>& groups);
  void set_accepting(bool accepting);
  void set_actor(const ActorId& actor);
  // The next task of a group, or null with `waiter` attached to the group.
  TaskHandle next_task(const std::string& group, wire::Waiter& waiter);
  void detach_group(const std::string& group, wire::Waiter& waiter);
  std::vector<TaskHandle> take_tasks(std::size_t limit);
  TaskHandle load_creation(Bytes payload);
  void begin_execution(const TaskHandle& task);
  // Makes one result: inline, or in shared memory, waiting and throwing as put() does. False: it would have
  // to wait for the store, and there is no `wait`.
  bool make_result(const TaskHandle& task, std::uint32_t index, const Parts& parts, const WaitFor& wait,
                   ResultParts& out);
  // The task fails after all: results of it that were stored go, before its reply can be sent.
  void discard_results(const TaskHandle& task, std::uint32_t first_index,
                       std::span<const ResultParts> results);
  void finish(const TaskHandle& task, TaskStatus status, std::vector<ResultParts> results,
              const std::string& error_text);

  // ---- leaving (core_leave.cc) ----
  // Takes no more tasks: gives those back that have not begun, and returns how many they were.
  std::size_t drain_executor();
  // Before this process ends on purpose: waits until what it has run is answered and the answers are written,
  // and has owners keep what it has not run. False when time was up first.
  bool take_leave(wire::TimePoint deadline);

  // ---- seeing ----
  TaskEvents& task_events() { return task_events_; }
  void flush_task_events();
  void record_span(const TaskId& task, const std::string& name, const std::string& extra_data,
                   std::int64_t start_unix_ns, std::int64_t end_unix_ns);
  std::vector<std::pair<std::string, std::int64_t>> statistics();
  std::vector<std::pair<ObjectId, ReferenceCounts>> references(std::size_t limit);
  // What a ProcessSnapshot (proto/aktis/v1/snapshot.proto) says; at most `limit` of each kind.
  std::vector<std::byte> snapshot(bool tasks, bool objects, std::size_t limit);

 private:
  class PeerDelegate;
  class RayletDelegate;
  class StoreListener;
  using Guard = std::unique_lock<std::mutex>;

  struct Peer {
    std::shared_ptr<wire::Connection> connection;  // what we send on; never exchanged while it is open
    std::string address;
  };

  // Scheduling and actor outlets (mutex_ held).
  void push(Lease& lease, TaskRecord& task) override;
  void steal(Lease& victim, std::uint32_t count) override;
  void need_leases(std::uint64_t class_key, const LeaseWish& wish) override;
  void return_lease(LeaseId lease) override;
  void task_lost(TaskRecord& task, const std::string& reason) override;
  TaskRecord& copy(TaskRecord& task) override;
  void push_call(const WorkerId& worker, TaskRecord& task, bool idle) override;
  void call_lost(TaskRecord& task, const std::string& reason) override;

  // core_peers.cc. Handlers of frames return false when the frame is malformed: it then had no effect.
  wire::Hello hello() const;
  wire::HandshakePolicy policy() const;
  std::shared_ptr<wire::Connection> peer(const WorkerId& worker, const std::string& address = {});
  void send(const WorkerId& worker, CoreFrame type, Bytes payload, bool urgent = true);
  void on_peer_accepted(wire::UniqueFd fd);
  void close_peers();
  void poll_what_was_posted();
  void on_peer_open(wire::Connection& connection, const WorkerId& worker);
  void on_peer_frame(wire::Connection& connection, const wire::Frame& frame);
  void on_peer_closed(wire::Connection& connection, const std::string& reason);
  std::optional<std::string> handle_frame(wire::Connection& connection, const wire::Frame& frame);
  void reject(wire::Connection& connection, const std::string& what);
  void worker_lost(const WorkerId& worker, const std::string& reason);
  // Frames are queued with queue(); every public method and handler ends with unlock_and_flush(), which
  // writes them at once when one of them is urgent, else leaves them to the next poll (within about a
  // millisecond).
  void queue(const std::shared_ptr<wire::Connection>& connection, CoreFrame type,
             std::initializer_list<Bytes> segments, bool urgent);
  void queue(const std::shared_ptr<wire::Connection>& connection, wire::FrameType type,
             std::initializer_list<Bytes> segments, bool urgent);
  void unlock_and_flush(Guard& guard);
  void flush_all();

  // core.cc (mutex_ held)
  void count_blocked(IncomingTask& task, int given_back, int told);

  // core_snapshot.cc, core_control.cc
  std::uint64_t snapshot_tasks(std::vector<std::byte>& out, std::size_t limit);  // how many are left off
  std::uint64_t snapshot_objects(std::vector<std::byte>& out, std::size_t limit);
  std::vector<std::byte> encode_object(const ObjectId& id, const ObjectEntry& known) const;  // mutex_ held
  void send_control(std::uint64_t correlation, Bytes message);
  void on_control(const wire::Frame& frame);
  void on_raylet_closed(const std::string& reason);

  // core_objects.cc (mutex_ held)
  ObjectEntry& entry(const ObjectId& id);
  ObjectEntry* find(const ObjectId& id);
  void complete(const ObjectId& id, ObjectEntry& entry);
  void work_off_resolved();
  void store_inline(const ObjectId& id, std::shared_ptr<const OwnedValue> value, bool is_error);
  void store_plasma(const ObjectId& id, std::uint64_t size_bytes, std::uint32_t copy);
  void fetch(const ObjectId& id, ObjectEntry& entry);
  enum class Stored { kNew, kFound, kMustWait };
  Stored store(const ObjectId& id, const Parts& parts, const WorkerId& owner, const WaitFor& wait,
               Bytes& mapped);
  void forget(const ObjectId& id);
  void answer_when_there(const ObjectId& id, ObjectEntry* known, const WorkerId& borrower, bool wait);
  void answer_remote(const ObjectId& id, ObjectEntry& entry, const WorkerId& borrower);
  void send_value(const ObjectId& id, Bytes value, const WorkerId& borrower);
  bool on_object_get(const WorkerId& from, Bytes payload);
  bool on_object_value(const WorkerId& from, Bytes payload);
  void on_plasma_object(const ObjectId& id, plasma::ObjectView view);
  void on_plasma_lost(const ObjectId& id);
  void on_plasma_gone();

  // core_free.cc (mutex_ held)
  bool on_object_free(Bytes payload);
  void free_now_or_later(const ObjectId& id, ObjectEntry& known, std::shared_ptr<const OwnedValue> error);
  void free_if_wanted(const ObjectId& id, ObjectEntry& known);
  void drop_value(const ObjectId& id, ObjectEntry& known, std::shared_ptr<const OwnedValue> error);
  // core_lineage.cc (mutex_ held)
  void retire(TaskRecord& task);
  void object_gone(const ObjectId& id);
  void keep_value(const ObjectId& id);
  void lose(const ObjectId& id, ObjectEntry& known, const std::string& reason);
  void missed_in_plasma(const ObjectId& id, ObjectEntry& known);
  bool on_object_lost(const WorkerId& from, Bytes payload);
  void revive(const ObjectId& id);
  void come_back(const ObjectId& id);
  std::string why_actor_cannot(const ActorId& actor, const std::vector<WorkerId>& waiting) const;
  void await_again(const ObjectId& id, ObjectEntry& known);
  void run_again(TaskRecord& task);

  // core_references.cc (mutex_ held)
  void settle_references();
  void carry_out(const std::vector<ReferenceAction>& actions);
  void drain_drops();
  bool on_reference_frame(CoreFrame type, const WorkerId& from, Bytes payload);

  // core_submit.cc (mutex_ held)
  void start(TaskRecord& task);
  void send_task(const WorkerId& worker, const TaskRecord& task, bool urgent);
  void encode_arguments(wire::ByteWriter& out, std::span<const Argument> arguments,
                        std::size_t max_inline_bytes);
  void unlink_arguments(TaskRecord& task);
  void finish_with_error(TaskRecord& task, std::shared_ptr<const OwnedValue> error,
                         const ErrorOrigin& origin = {});
  void contain_error(const TaskRecord& task, const std::optional<ObjectId>& last_item,
                     const ErrorOrigin& origin);
  void adopt_error(const FailedAttempt& attempt, std::span<const ObjectId> outers);
  void forget_failed(TaskRecord& task);
  void set_suspended(TaskRecord& task, const std::string& reason);
  void argument_there(TaskRecord& task);
  void measure(TaskRecord& task);
  bool on_reply(const WorkerId& from, Bytes payload);
  void store_returns(TaskRecord& task, const ReplyMessage& reply, const WorkerId& from);
  bool on_give_back(const WorkerId& from, Bytes payload);
  bool on_cancel_asked(Bytes payload);
  void end_task(TaskRecord& task);
  void fail_returns(TaskRecord& task, std::shared_ptr<const OwnedValue> error);
  void release_uses(TaskRecord& task);
  void task_events_record(const TaskRecord& task, int state, std::string_view error);
  void arm_event_flush();
  void arm_tick();
  void tick();

  // core_copies.cc (mutex_ held)
  TaskRecord* other_run(const TaskRecord& task);
  void call_off(TaskRecord& copy, bool recursive);
  void report_called_off(const TaskRecord& copy, bool lingers);
  void forget_copy(const TaskRecord& copy);
  void remove_unwanted(const TaskRecord& task);
  bool settle_copy(const ReplyMessage& reply, const WorkerId& from);
  void take_over(TaskRecord& task, TaskRecord& copy);
  bool lose_run(TaskRecord& run);
  TaskRecord* pushed_to(const WorkerId& worker, const TaskId& task);
  // core_streams.cc (mutex_ held)
  bool on_stream_item(const WorkerId& from, Bytes payload);
  void greet_attempt(const TaskId& task, const Stream& stream);
  void release_item(const WorkerId& from, const StreamItemMessage& item);
  std::optional<ObjectId> error_item(const TaskRecord& task);
  void end_stream(TaskRecord& task);
  void tell_taken(const TaskId& id, std::uint32_t taken, bool paused = false);
  void let_stream_end(const ObjectId& awaited);
  bool on_stream_taken(wire::Connection& connection, Bytes payload);
  void let_stream_go_on(IncomingTask& task, std::uint32_t taken, bool paused = false);
  bool may_stream(const IncomingTask& task) const;
  void let_streams_make_way();

  // core_execute.cc
  bool on_task(wire::Connection& connection, const WorkerId& from, Bytes payload);
  bool on_steal(wire::Connection& connection, Bytes payload);
  bool on_cancel(wire::Connection& connection, Bytes payload);
  void send_reply(const TaskHandle& task, Bytes reply);
  void drop_tasks_of(const WorkerId& owner);
  void give_back_queued();
  // core_timeouts.cc (mutex_ held)
  void watch_time(IncomingTask& task);
  void look_again_at(wire::TimePoint due);
  void look_for_overdue();
  bool on_overdue(const WorkerId& from, Bytes payload);
  void report_overdue(const TaskRecord& task, bool again);
  // core_leave.cc (mutex_ held)
  bool has_left() const;
  void look_whether_left();
  void tell_that_it_leaves();

  bool gives_back() const { return config_.role == wire::Role::kWorker && actor_.is_nil(); }

  const CoreConfig config_;
  CoreLimits limits_;
  NodeId node_;
  JobId job_;
  std::string sockets_dir_;
  std::string address_;
  std::atomic<bool> closed_{false};

  wire::Reactor reactor_;
  wire::Baton baton_;
  EventQueue events_;
  std::shared_ptr<wire::Listener> listener_;
  std::shared_ptr<wire::Connection> raylet_;
  std::shared_ptr<RayletDelegate> raylet_delegate_;
  std::shared_ptr<PeerDelegate> peer_delegate_;
  std::unique_ptr<plasma::Client> plasma_;
  std::atomic<std::uint64_t> last_request_{0};
  std::atomic<std::uint64_t> last_task_{0};
  std::atomic<std::size_t> in_flight_bytes_{0};
  std::atomic<std::uint64_t> rejected_frames_{0};  // malformed, and their connections closed
  std::atomic<std::uint64_t> refused_peers_{0};    // strangers that never got through the handshake
  std::atomic<std::uint64_t> overrun_peers_{0};    // did not read what we sent them
  std::atomic<bool> flush_armed_{false};

  std::mutex drops_mutex_;
  std::vector<ObjectId> drops_;  // references whose destructor ran; drained in batches

  std::mutex mutex_;
  // Guarded by mutex_:
  ReferenceTable references_;
  Lineage lineage_;
  std::unordered_map<ObjectId, ObjectEntry, IdHash> objects_;
  std::unordered_map<ObjectId, std::shared_ptr<const OwnedValue>, IdHash> free_when_there_;
  std::unordered_map<TaskId, std::unique_ptr<TaskRecord>, IdHash> tasks_;
  std::unordered_map<TaskId, std::unique_ptr<TaskRecord>, IdHash> copies_;  // second runs of tasks
  std::unordered_map<TaskId, std::vector<TaskId>, IdHash> children_;
  std::unordered_map<TaskId, Stream, IdHash> streams_;
  Scheduling scheduling_;
  ActorCalls actor_calls_;
  std::unordered_map<WorkerId, Peer, IdHash> peers_;
  std::unordered_map<wire::Connection*, WorkerId> open_;   // accepted or connected, handshake done
  std::vector<std::weak_ptr<wire::Connection>> arriving_;  // accepted, in the handshake, which has a deadline
  std::unordered_map<std::uint64_t, Call*> calls_;
  std::vector<std::shared_ptr<wire::Connection>> dirty_;  // have frames queued
  bool urgent_ = false;
  int blocked_threads_ = 0;  // threads of tasks here that wait with their queue given back
  int told_threads_ = 0;     // and those of which the raylet has been told
  int stream_waiters_ = 0;   // threads of generators here that wait for their consumers
  std::vector<wire::Waiter*> room_waiters_;
  bool settling_ = false;
  std::vector<ObjectId> to_remove_;  // from the store, after mutex_ is released
  std::vector<TaskId> resolved_;     // tasks of which an argument has come; worked off by work_off_resolved()
  bool working_off_ = false;
  bool tick_armed_ = false;
  bool raylet_lost_ = false;
  bool store_gone_ = false;
  std::uint64_t reconstructions_ = 0;  // tasks run again for a lost result
  std::uint64_t copies_started_ = 0;   // second runs of tasks
  std::uint64_t copies_won_ = 0;       // and those that ended first

  // The executor (guarded by mutex_).
  struct Group {
    std::deque<TaskHandle> queue;
    std::deque<wire::Waiter*> waiting;
  };
  std::unordered_map<std::string, Group> groups_;
  bool accepting_ = true;
  TaskBell bell_;
  bool draining_ = false;
  bool leave_told_ = false;
  std::vector<wire::Waiter*> leaving_waiters_;
  ActorId actor_;
  TaskHandle creation_;  // of the actor that this process becomes, while it is constructed
  std::unordered_map<TaskId, TaskHandle, IdHash> running_;
  // Handed out and not begun yet: an event loop takes several, and a thread has to wait for the GIL.
  std::unordered_map<TaskId, TaskHandle, IdHash> taken_;
  wire::TimePoint next_due_ = wire::TimePoint::max();  // when the earliest running task may be overdue
  struct HeldReply {
    TaskHandle task;
    std::vector<std::byte> bytes;
  };
  std::unordered_map<TaskId, HeldReply, IdHash> held_replies_;  // until their references are registered
  wire::TimePoint last_reply_flush_;
  TaskEvents task_events_;
};

}  // namespace aktis::core
