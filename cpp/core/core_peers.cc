// Connections to other workers and drivers.
//
// What we send to a process always goes over one connection, so that it arrives in order; a process whose
// connection breaks is taken for dead (its WorkerId is never used again, a restarted one is another process).
#include <algorithm>

#include "core/core.h"
#include "core/delegates.h"
#include "wire/log.h"

namespace aktis::core {

std::shared_ptr<wire::Connection> Core::peer(const WorkerId& worker, const std::string& address) {
  Peer& peer = peers_[worker];
  if (peer.connection) return peer.connection;
  if (!address.empty()) peer.address = address;
  if (peer.address.empty()) peer.address = "unix:" + sockets_dir_ + "/" + worker.hex() + ".sock";
  peer.connection = wire::Connection::connect(reactor_, peer.address, hello(), worker, peer_delegate_);
  open_.emplace(peer.connection.get(), worker);
  return peer.connection;
}

void Core::send(const WorkerId& worker, CoreFrame type, Bytes payload, bool urgent) {
  queue(peer(worker), type, {payload}, urgent);
}

void Core::queue(const std::shared_ptr<wire::Connection>& connection, CoreFrame type,
                 std::initializer_list<Bytes> segments, bool urgent) {
  queue(connection, static_cast<wire::FrameType>(type), segments, urgent);
}

void Core::queue(const std::shared_ptr<wire::Connection>& connection, wire::FrameType type,
                 std::initializer_list<Bytes> segments, bool urgent) {
  wire::FrameHeader header;
  header.type = static_cast<std::uint16_t>(type);
  const std::span<const Bytes> parts(segments.begin(), segments.size());
  if (connection->send(header, parts, wire::Flush::kLater) == wire::SendResult::kQueueFull) {
    // Nothing of the frame was sent, and somebody would wait for its effect: what the peer has not read is
    // lost with the connection, which everybody hears of.
    ++overrun_peers_;
    connection->close("it does not read what it is sent: " + std::to_string(connection->queued_bytes()) +
                      " bytes wait");
    return;
  }
  if (std::find(dirty_.begin(), dirty_.end(), connection) == dirty_.end()) dirty_.push_back(connection);
  urgent_ |= urgent;
}

void Core::unlock_and_flush(Guard& guard) {
  std::vector<std::shared_ptr<wire::Connection>> now;
  std::vector<ObjectId> remove;
  if (urgent_) now.swap(dirty_);
  urgent_ = false;
  remove.swap(to_remove_);
  const bool later = !dirty_.empty();
  plasma::Client* store = plasma_.get();
  guard.unlock();
  for (const auto& connection : now) connection->flush();
  if (store != nullptr && !remove.empty()) store->remove(remove);
  if (later && !flush_armed_.exchange(true)) {
    reactor_.call_after(std::chrono::milliseconds(1), [this] { flush_armed_ = false; });
  }
}

void Core::flush_all() {
  Guard guard(mutex_);
  drain_drops();
  urgent_ = true;
  unlock_and_flush(guard);
}

void Core::on_peer_accepted(wire::UniqueFd fd) {
  if (closed_) return;
  auto connection = wire::Connection::accept(reactor_, std::move(fd), policy(), peer_delegate_);
  Guard guard(mutex_);
  std::erase_if(arriving_, [](const auto& earlier) { return earlier.expired(); });
  arriving_.push_back(connection);
}

void Core::on_peer_open(wire::Connection& connection, const WorkerId& worker) {
  Guard guard(mutex_);
  std::erase_if(arriving_, [&](const auto& one) { return one.lock().get() == &connection; });
  open_[&connection] = worker;
  Peer& peer = peers_[worker];
  if (!peer.connection) peer.connection = connection.shared_from_this();
}

void Core::on_peer_frame(wire::Connection& connection, const wire::Frame& frame) {
  if (const auto problem = handle_frame(connection, frame)) reject(connection, *problem);
}

// What was wrong with it, if anything.
std::optional<std::string> Core::handle_frame(wire::Connection& connection, const wire::Frame& frame) {
  const auto type = static_cast<CoreFrame>(frame.header.type);
  const Bytes payload = frame.payload;
  if (type == CoreFrame::kTask) {  // the executor's hot path copies outside the lock
    if (on_task(connection, connection.peer().sender, payload)) return std::nullopt;
    return "a task that does not decode";
  }
  Guard guard(mutex_);
  const auto known = open_.find(&connection);
  if (known == open_.end()) return std::nullopt;
  const WorkerId from = known->second;
  bool ok = true;
  const char* what = "";
  switch (type) {
    case CoreFrame::kTaskReply:
      what = "a reply that does not answer its task", ok = on_reply(from, payload);
      break;
    case CoreFrame::kGiveBack:
      what = "tasks given back that do not decode", ok = on_give_back(from, payload);
      break;
    case CoreFrame::kSteal:
      what = "a request to steal that does not decode", ok = on_steal(connection, payload);
      break;
    case CoreFrame::kCancel:
      what = "a request to cancel that does not decode", ok = on_cancel(connection, payload);
      break;
    case CoreFrame::kCancelAsked:
      what = "a wish to cancel that does not decode", ok = on_cancel_asked(payload);
      break;
    case CoreFrame::kObjectGet:
      what = "a request for an object that does not decode", ok = on_object_get(from, payload);
      break;
    case CoreFrame::kObjectValue:
      what = "an object that does not decode", ok = on_object_value(from, payload);
      break;
    case CoreFrame::kStreamItem:
      what = "an item that does not belong here", ok = on_stream_item(from, payload);
      break;
    case CoreFrame::kStreamTaken:
      what = "a count of items that does not decode", ok = on_stream_taken(connection, payload);
      break;
    case CoreFrame::kOverdue:
      what = "a task's time that does not decode", ok = on_overdue(from, payload);
      break;
    case CoreFrame::kObjectLost:
      what = "a loss that does not decode", ok = on_object_lost(from, payload);
      break;
    case CoreFrame::kObjectFree:
      what = "a wish to free an object that does not decode", ok = on_object_free(payload);
      break;
    case CoreFrame::kBorrowAdd:
    case CoreFrame::kBorrowAck:
    case CoreFrame::kBorrowNack:
    case CoreFrame::kBorrowRemove:
    case CoreFrame::kReturnRelease:
      what = "a message about references that does not decode", ok = on_reference_frame(type, from, payload);
      break;
    default:
      return "a frame of type " + std::to_string(frame.header.type);
  }
  unlock_and_flush(guard);
  if (ok) return std::nullopt;
  return what;
}

void Core::reject(wire::Connection& connection, const std::string& what) {
  ++rejected_frames_;
  wire::log(wire::LogLevel::kWarning, "core",
            "closing the connection of process " + std::to_string(connection.peer().pid) + " (" +
                connection.peer().sender.hex() + "), which sent " + what);
  connection.close("malformed frame: " + what);
}

void Core::on_peer_closed(wire::Connection& connection, const std::string& reason) {
  Guard guard(mutex_);
  const auto known = open_.find(&connection);
  if (known == open_.end()) {
    if (!closed_) ++refused_peers_;  // wire has logged why
    return;
  }
  const WorkerId worker = known->second;
  open_.erase(known);
  dirty_.erase(std::remove_if(dirty_.begin(), dirty_.end(),
                              [&](const auto& other) { return other.get() == &connection; }),
               dirty_.end());
  if (!closed_) worker_lost(worker, reason);
  unlock_and_flush(guard);
}

void Core::worker_lost(const WorkerId& worker, const std::string& reason) {
  const auto known = peers_.find(worker);
  if (known == peers_.end()) return;  // the second connection of the same process
  const auto connection = std::move(known->second.connection);
  peers_.erase(known);
  if (connection && connection->state() != wire::Connection::State::kClosed) connection->close("peer lost");
  while (Lease* lease = scheduling_.find_worker(worker)) {
    const LeaseId id = lease->id;
    scheduling_.on_lease_broken(id, reason, wire::Clock::now());
    events_.push({.kind = EventKind::kLeaseBroken,
                  .first = worker.binary(),
                  .text = reason,
                  .number = static_cast<std::int64_t>(id)});
  }
  for (const ActorId& actor : actor_calls_.on_worker_lost(worker, reason)) {
    events_.push(
        {.kind = EventKind::kActorLost, .first = actor.binary(), .second = worker.binary(), .text = reason});
  }
  drop_tasks_of(worker);
  for (auto& [id, known_object] : objects_) {
    auto& waiting = known_object.remote_waiting;
    if (!waiting.empty()) waiting.erase(std::remove(waiting.begin(), waiting.end(), worker), waiting.end());
  }
  references_.on_process_lost(worker);
  settle_references();
}

}  // namespace aktis::core
