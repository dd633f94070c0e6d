// A whole core, without a store, and a peer that says anything at all to it in between what the core's own
// process does. Nothing may break; and when the peer is gone and every reference dropped, nothing is left.
//
// Input: fuzz/core_script.h.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <string>
#include <vector>

#include "core/core.h"
#include "fuzz/core_script.h"
#include "fuzz/socket_directory.h"
#include "wire/log.h"

namespace {

using namespace aktis;
using namespace aktis::core;
using namespace aktis::fuzz;
using namespace std::chrono_literals;

constexpr wire::TimePoint kPast{};

Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

std::shared_ptr<const OwnedValue> some_value(ValueKind kind = ValueKind::kPickle) {
  return OwnedValue::make(kind, bytes_of("value"), {});
}

// The other end of a connection: it sends, and reads what comes without looking at it.
class Peer {
 public:
  explicit Peer(const std::string& path) : fd_(connect_to(path)) {
    wire::Hello hello;
    hello.role = wire::Role::kWorker;
    hello.sender = kPeer;
    send(static_cast<std::uint16_t>(wire::FrameType::kHello), wire::encode_hello(hello));
  }
  void send(std::uint16_t type, Bytes payload) {
    std::byte header[wire::kHeaderBytes];
    wire::encode_header({static_cast<std::uint32_t>(payload.size()), type, 0, 0}, header);
    std::vector<std::byte> frame(header, header + sizeof header);
    frame.insert(frame.end(), payload.begin(), payload.end());
    // Short as it is the socket takes it whole, or the core has hung up.
    (void)!::send(fd_.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
  }
  void listen() {
    std::byte heard[4096];
    while (::recv(fd_.get(), heard, sizeof heard, 0) > 0) {
    }
  }

 private:
  wire::UniqueFd fd_;
};

class Process {
 public:
  Process(const std::string& directory, std::uint8_t kind) : core_(std::make_shared<Core>(config(kind))) {
    core_->set_identity(NodeId{}, JobId{});
    if ((kind & kIsActor) != 0) core_->set_actor(kActor);
    core_->listen(directory);
    peer_ = std::make_unique<Peer>(directory + "/" + kSelf.hex() + ".sock");
    for (int i = 0; i < 3; ++i) pass();
    begin();
  }

  void take(const Step& step) {
    if (step.what >= 32) {
      peer_->send(step.what, step.payload);
    } else {
      act(static_cast<Act>(step.what % (static_cast<int>(Act::kLast) + 1)),
          step.payload.empty() ? 0 : static_cast<std::uint8_t>(step.payload[0]));
    }
    pass();
  }

  void end() {
    peer_.reset();
    for (int round = 0; round < 3; ++round) pass(), decide();
    while (!begun_.empty()) finish(TaskStatus::kOk);
    for (const TaskId& task : kTasks) core_->fail_task(task, {});
    core_->actor_fail(kActor, {});
    core_->fail_class(1, {});
    core_->stream_drop(kGenerator);
    for (const ObjectId& id : std::exchange(held_, {})) core_->drop_reference(id);
    for (int round = 0; round < 3; ++round) pass(), decide();
    for (const auto& [name, value] : core_->statistics()) {
      const bool left = value != 0 && (name == "objects" || name == "references" || name == "tasks");
      if (!left) continue;
      std::fprintf(stderr, "%s are left: %d\n", name.c_str(), static_cast<int>(value));
      std::abort();
    }
    core_->close();
  }

 private:
  static CoreConfig config(std::uint8_t kind) {
    CoreConfig config;
    config.role = (kind & kIsWorker) != 0 ? wire::Role::kWorker : wire::Role::kDriver;
    config.worker = kSelf;
    config.linger = 0us;
    return config;
  }

  void pass() {
    core_->poll_tasks();
    peer_ ? peer_->listen() : void();
  }

  // ---- what there is at the beginning ----

  void begin() {
    put({});
    put({core_->ref_of(kInner)});
    TaskTemplate plain{.class_key = 1, .name = "plain", .num_returns = 2, .max_retries = 1};
    submit(kPlain, plain);
    submit(kDependent, {.class_key = 1, .name = "dependent"}, {}, {ObjectId::of(kPlain, 0), kOuter});
    submit(kGenerator, {.class_key = 1, .name = "generator", .streaming = true, .stream_limit = 2});
    submit(kRetried,
           {.class_key = 1, .name = "retried", .max_retries = 2, .speculative = 0.5, .retry_on_error = true});
    core_->add_lease(1, 1, kPeer, {});
    submit(kCall, {.kind = TaskKind::kActorMethod, .name = "call"}, kActor);
    submit(kSecondCall, {.kind = TaskKind::kActorMethod, .name = "call", .max_retries = 1}, kActor);
    core_->actor_connect(kActor, 1, kPeer, {});
    adopt({kBorrowed, kPeer, NodeId{}}, Cover::none());
    core_->watch(kBorrowed, false);
  }

  void put(std::vector<RefId> nested) {
    const ObjectId id = core_->next_put_id();
    core_->put(id, {.inband = bytes_of("value"), .buffers = {}, .nested = std::move(nested)}, {});
    held_.push_back(id);
  }

  // The core must give it the id by which scripts know it: else they would be about nothing.
  void submit(const TaskId& expected, TaskTemplate shape, const ActorId& actor = {},
              const std::vector<ObjectId>& arguments = {}) {
    shape.finish();
    Core::Submission submission;
    submission.shape = std::make_shared<TaskTemplate>(std::move(shape));
    submission.actor = actor;
    for (const ObjectId& id : arguments) submission.arguments.push_back({0, {}, core_->ref_of(id)});
    submission.args = some_value();
    for (const ObjectId& id : core_->submit(std::move(submission))) {
      if (id.task() != expected) std::abort();
      held_.push_back(id);
    }
  }

  void adopt(const RefId& ref, const Cover& cover) {
    core_->adopt_reference(ref, cover);
    held_.push_back(ref.id);
  }

  // ---- what the process does ----

  void act(Act what, std::uint8_t which) {
    switch (what) {
      case Act::kDecide:
        return decide();
      case Act::kExecute:
        return execute();
      case Act::kFinish:
        return finish(static_cast<TaskStatus>(which % 3));
      case Act::kItem:
        return item();
      case Act::kDrop:
        if (held_.empty()) return;
        core_->drop_reference(held_[which % held_.size()]);
        held_.erase(held_.begin() + which % held_.size());
        return;
      case Act::kCancel:
        core_->cancel(kTasks[which % std::size(kTasks)], which % 2 == 0, {});
        return;
      case Act::kFree:
        if (!held_.empty()) core_->free(held_[which % held_.size()], {});
        return;
      case Act::kLook:
        core_->snapshot(true, true, 1 + which);
        core_->references(1 + which);
        return;
      case Act::kPass:
        return;
    }
  }

  void decide() {
    for (const Event& event : core_->next_events(kPast)) {
      const auto task = [&] { return TaskId::from_bytes(event.first.data()); };
      const auto object = [&] { return ObjectId::from_bytes(event.first.data()); };
      if (event.kind == EventKind::kTaskLost || event.kind == EventKind::kTaskError) {
        if (event.number == 0 || !core_->resubmit(task(), 0ms)) core_->fail_task(task(), {});
      } else if (event.kind == EventKind::kObjectLost) {
        if (core_->reconstruct(object())) core_->fail_object(object(), {});
      } else if (event.kind == EventKind::kActorLost) {
        core_->actor_fail(kActor, {});
      } else if (event.kind == EventKind::kCancelAsked) {
        core_->cancel(object().task(), event.number != 0, {});
      }
    }
  }

  void execute() {
    for (const TaskHandle& task : core_->take_tasks(1)) {
      core_->begin_execution(task);
      for (const ArgumentMessage& argument : task->message.arguments) {
        adopt(argument.ref, Cover::by_task(task->message.id, task->owner));
        if (argument.place == ArgumentPlace::kPlasma) core_->note_in_plasma(argument.ref.id, argument.copy);
      }
      begun_.push_back(task);
    }
  }

  ResultParts result(ValueKind kind) {
    ResultParts parts;
    parts.value = some_value(kind);
    parts.size_bytes = parts.value->view().size();
    if (!held_.empty()) parts.nested.push_back(core_->ref_of(held_.back()));
    return parts;
  }

  void finish(TaskStatus status) {
    if (begun_.empty()) return;
    const TaskHandle task = std::move(begun_.front());
    begun_.pop_front();
    std::vector<ResultParts> results;
    const ValueKind kind = status == TaskStatus::kError ? ValueKind::kError : ValueKind::kPickle;
    for (int i = 0; i < std::min<int>(task->message.num_returns, 3); ++i) results.push_back(result(kind));
    core_->finish(task, status, std::move(results), "text");
  }

  void item() {
    if (begun_.empty()) return;
    wire::Waiter waiter;
    core_->attach_stream_room(begun_.front(), waiter);
    core_->detach_stream_room(begun_.front());
    core_->send_item(begun_.front(), result(ValueKind::kPickle));
  }

  std::shared_ptr<Core> core_;
  std::unique_ptr<Peer> peer_;
  std::vector<ObjectId> held_;  // a reference each
  std::deque<TaskHandle> begun_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (wire::set_log_sink([](auto, auto, auto) {}), true);
  static const SocketDirectory directory;
  if (!quiet || size < 1) return 0;
  std::span input = std::as_bytes(std::span(data + 1, size - 1));
  Process process(directory.path(), data[0]);
  while (const auto step = next_step(input)) process.take(*step);
  process.end();
  return 0;
}
