// Streaming generators: the owner's side (items arrive, are taken, are let go) and the executor's (items are
// sent, and held back while the consumer lags). The bookkeeping is core/streams.h.
#include <utility>

#include "core/core.h"

namespace aktis::core {
namespace {

// Index 0 of the task's returns is the completion of the whole.
ObjectId item_id(const TaskId& task, std::uint32_t index) { return ObjectId::of(task, index + 1); }

}  // namespace

// ---- the owner ----

bool Core::on_stream_item(const WorkerId& from, Bytes payload) {
  const auto item = decode_stream_item(payload);
  if (!item) return false;
  const auto known = tasks_.find(item->task);
  const auto stream = streams_.find(item->task);
  const bool current = known != tasks_.end() && known->second->state == TaskState::kPushed &&
                       known->second->worker == from && known->second->attempt == item->attempt;
  if (!current || stream == streams_.end()) {
    release_item(from, *item);
    return true;
  }
  if (item->index == 0) greet_attempt(item->task, stream->second);
  const ObjectId id = item_id(item->task, item->index);
  switch (stream->second.arrive(item->index)) {
    case Stream::Arrival::kOutOfOrder:
      return false;
    case Stream::Arrival::kKnown:
      if (stream->second.dropped() && item->value.in_plasma) to_remove_.push_back(id);
      release_item(from, *item);
      return true;
    case Stream::Arrival::kNew:
      references_.add_owned(id, 1);
      entry(id);
      break;
    case Stream::Arrival::kPromised:
      break;
  }
  if (item->hold != 0) {
    std::vector<ReturnedRef> nested;
    for (const RefId& ref : item->value.nested) nested.push_back({id, ref.id, ref.owner});
    references_.adopt_return(from, item->hold, nested);
  }
  if (item->value.in_plasma) {
    store_plasma(id, item->value.size_bytes, item->attempt);
  } else {
    store_inline(id, OwnedValue::copy_of(item->value.value), false);
  }
  if (stream->second.came(item->value.in_plasma ? item->value.size_bytes : item->value.value.size(),
                          limits_.stream_bytes)) {
    tell_taken(item->task, stream->second.taken(), true);
  }
  settle_references();
  return true;
}

// An attempt that begins, maybe not the first, learns how far the consumer is.
void Core::greet_attempt(const TaskId& task, const Stream& stream) {
  const bool behind = stream.limited() && (stream.taken() != 0 || stream.dropped());
  if (behind || stream.paused())
    tell_taken(task, stream.dropped() ? kEverything : stream.taken(), stream.paused());
}

void Core::release_item(const WorkerId& from, const StreamItemMessage& item) {
  if (item.hold != 0) references_.adopt_return(from, item.hold, {});
  settle_references();
}

// The task failed for good: its error is to be the last item, which is made here.
std::optional<ObjectId> Core::error_item(const TaskRecord& task) {
  const auto known = streams_.find(task.id);
  if (known == streams_.end() || known->second.dropped()) return std::nullopt;
  const ObjectId id = item_id(task.id, known->second.received());
  if (known->second.arrive(known->second.received()) == Stream::Arrival::kNew) {
    references_.add_owned(id, 1);
    entry(id);
  }
  return id;
}

void Core::end_stream(TaskRecord& task) {
  const auto known = streams_.find(task.id);
  if (known == streams_.end()) return;
  Stream& stream = known->second;
  lineage_.decline(task, stream.received() + 2);  // the whole, the items, and one that was promised
  if (stream.end() && !stream.dropped()) {
    store_inline(item_id(task.id, stream.next()), OwnedValue::make(ValueKind::kError, {}, {}), true);
  }
  if (stream.dropped()) streams_.erase(known);
}

std::optional<ObjectId> Core::stream_next(const TaskId& task) {
  Guard guard(mutex_);
  const auto known = streams_.find(task);
  if (known == streams_.end() || known->second.ended_at_next()) return std::nullopt;
  const ObjectId id = item_id(task, known->second.next());
  if (known->second.promise()) {
    references_.add_owned(id, 1);
    entry(id);
  }
  return id;
}

std::optional<ObjectId> Core::stream_take(const TaskId& task) {
  Guard guard(mutex_);
  const auto known = streams_.find(task);
  if (known == streams_.end() || known->second.ended_at_next()) return std::nullopt;
  const ObjectId id = item_id(task, known->second.next());
  const ObjectEntry* item = find(id);
  if (item == nullptr || !item->exists()) throw std::logic_error("an item is taken that has not come");
  const auto taken = known->second.take();
  const bool resumed = known->second.went(item->size_bytes, limits_.stream_bytes);
  if (taken || resumed) tell_taken(task, taken.value_or(known->second.taken()), known->second.paused());
  unlock_and_flush(guard);
  return id;
}

bool Core::stream_ended(const TaskId& task) {
  Guard guard(mutex_);
  const auto known = streams_.find(task);
  return known == streams_.end() || known->second.ended_at_next();
}

void Core::stream_drop(const TaskId& task) {
  if (closed_ || reactor_.in_forked_child()) return;
  Guard guard(mutex_);
  const auto known = streams_.find(task);
  if (known == streams_.end()) return;
  Stream& stream = known->second;
  std::vector<ObjectId> unwanted;
  for (std::uint32_t i = stream.next(); i < stream.kept_until(); ++i) unwanted.push_back(item_id(task, i));
  stream.drop();
  if (stream.lift() || stream.limited()) tell_taken(task, kEverything);
  if (stream.ended()) streams_.erase(known);
  if (!unwanted.empty()) references_.remove_local(unwanted);
  settle_references();
  unlock_and_flush(guard);
}

// Somebody waits for an object. If it is the end of a generator, its items must not hold that up.
void Core::let_stream_end(const ObjectId& awaited) {
  if (streams_.empty() || awaited.index() != 0) return;
  const auto known = streams_.find(awaited.task());
  if (known != streams_.end() && known->second.lift()) tell_taken(known->first, known->second.taken());
}

void Core::tell_taken(const TaskId& id, std::uint32_t taken, bool paused) {
  const auto known = tasks_.find(id);
  if (known == tasks_.end() || known->second->state != TaskState::kPushed) return;
  wire::ByteWriter out;
  encode_stream_taken(out, {id, known->second->attempt, taken, paused});
  send(known->second->worker, CoreFrame::kStreamTaken, out.view());
}

// ---- the executor ----

void Core::send_item(const TaskHandle& task, ResultParts item) {
  std::vector<ObjectId> nested;
  for (const RefId& ref : item.nested) nested.push_back(ref.id);
  Guard guard(mutex_);
  StreamItemMessage head;
  head.task = task->message.id;
  head.attempt = task->message.attempt;
  head.index = task->streamed++;
  if (!nested.empty()) head.hold = references_.hold_return(task->owner, nested);
  wire::ByteWriter out;
  encode_stream_item_head(out, head);
  encode_return(out, item.in_plasma, item.size_bytes, item.in_plasma ? Bytes{} : item.value->view(),
                item.nested);
  const auto now = wire::Clock::now();
  const bool urgent = now - last_reply_flush_ > kReplyCompany;
  if (urgent) last_reply_flush_ = now;
  queue(task->connection, CoreFrame::kStreamItem, {out.view()}, urgent);
  settle_references();
  unlock_and_flush(guard);
}

bool Core::attach_stream_room(const TaskHandle& task, wire::Waiter& waiter) {
  Guard guard(mutex_);
  if (may_stream(*task)) return true;
  task->stream_waiter = &waiter;
  ++stream_waiters_;
  return false;
}

// The limit of items is the user's, and keeps an actor from its next calls as long as it lasts. The owner's
// pause is nobody's wish: the consumer may be waiting for the call behind the generator.
bool Core::may_stream(const IncomingTask& task) const {
  const std::uint32_t limit = task.message.stream_limit;
  if (task.taken == kEverything) return true;
  if (limit != 0 && task.streamed >= task.taken + limit) return false;
  if (!task.stream_paused) return true;
  if (actor_.is_nil() || bell_.is_watched()) return false;  // an event loop takes its calls meanwhile
  auto group = groups_.find(std::string(task.message.concurrency_group));
  if (group == groups_.end()) group = groups_.find(std::string{});
  return group != groups_.end() && !group->second.queue.empty();
}

// A call has been queued.
void Core::let_streams_make_way() {
  for (const auto& [id, task] : running_) {
    if (task->stream_waiter != nullptr && may_stream(*task)) task->stream_waiter->complete();
  }
}

void Core::detach_stream_room(const TaskHandle& task) {
  Guard guard(mutex_);
  if (std::exchange(task->stream_waiter, nullptr) != nullptr) --stream_waiters_;
}

bool Core::on_stream_taken(wire::Connection& connection, Bytes payload) {
  const auto message = decode_stream_taken(payload);
  if (!message) return false;
  const auto running = running_.find(message->task);
  if (running == running_.end() || running->second->connection.get() != &connection) return true;
  if (running->second->message.attempt == message->attempt)
    let_stream_go_on(*running->second, message->taken, message->paused);
  return true;
}

void Core::let_stream_go_on(IncomingTask& task, std::uint32_t taken, bool paused) {
  task.taken = std::max(task.taken, taken);
  task.stream_paused = paused;
  if (task.stream_waiter != nullptr && !paused) task.stream_waiter->complete();
}

}  // namespace aktis::core
