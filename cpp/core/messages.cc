#include "core/messages.h"

#include <algorithm>

#include "core/proto_writer.h"
#include "wire/frame.h"

namespace aktis::core {
namespace {

constexpr std::size_t kMaxNameBytes = 1024;
constexpr std::size_t kMaxBlobBytes = wire::kDefaultMaxPayloadBytes;

RefId read_ref(wire::ByteReader& in) {
  RefId ref;
  ref.id = in.id<ObjectId>();
  ref.owner = in.id<WorkerId>();
  ref.node = in.id<NodeId>();
  return ref;
}

void write_ref(wire::ByteWriter& out, const RefId& ref) { out.id(ref.id).id(ref.owner).id(ref.node); }

void write_argument_head(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                         ArgumentPlace place, const RefId& ref) {
  out.u16(position);
  if (position == kKeywordPosition) out.text(keyword);
  out.u8(static_cast<std::uint8_t>(place));
  write_ref(out, ref);
}

ArgumentMessage read_argument(wire::ByteReader& in) {
  ArgumentMessage argument;
  argument.position = in.u16();
  if (argument.position == kKeywordPosition) argument.keyword = in.text(kMaxNameBytes);
  argument.place = static_cast<ArgumentPlace>(in.u8());
  argument.ref = read_ref(in);
  if (argument.place == ArgumentPlace::kPlasma) argument.copy = in.u32();
  if (argument.place == ArgumentPlace::kInline) argument.value = in.blob(kMaxBlobBytes);
  return argument;
}

ReturnMessage read_return(wire::ByteReader& in) {
  ReturnMessage value;
  value.in_plasma = in.u8() != 0;
  value.size_bytes = in.u64();
  if (!value.in_plasma) value.value = in.blob(kMaxBlobBytes);
  const std::size_t nested = in.u32();
  if (!in.fits(nested, RefId::kBytes)) return value;
  value.nested.reserve(nested);
  for (std::size_t i = 0; i < nested; ++i) value.nested.push_back(read_ref(in));
  return value;
}

}  // namespace

void TaskTemplate::finish() {
  wire::ByteWriter out;
  out.u8(static_cast<std::uint8_t>(kind));
  out.u8((max_retries == 0 ? kTaskAtMostOnce : 0) | (streaming ? kTaskStreaming : 0) |
         (dynamic ? kTaskDynamic : 0) | (speculative != 0 ? kTaskSpeculative : 0));
  out.u16(num_returns)
      .u32(stream_limit)
      .u32(timeout_ms)
      .id(function)
      .text(name)
      .text(method)
      .text(concurrency_group)
      .text(placement);
  encoded = out.take();
}

void encode_task_head(wire::ByteWriter& out, const TaskId& id, const TaskId& parent, const JobId& job,
                      const ActorId& actor, std::uint32_t attempt, const TraceContext& trace) {
  out.id(id).id(parent).id(job).id(actor).u32(attempt).raw(trace.data, sizeof(trace.data));
}

void encode_argument(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                     const RefId& ref, std::uint32_t copy) {
  write_argument_head(out, position, keyword, ArgumentPlace::kPlasma, ref);
  out.u32(copy);
}

void encode_argument(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                     const RefId& ref, Bytes value) {
  write_argument_head(out, position, keyword, ArgumentPlace::kInline, ref);
  out.blob(value);
}

void encode_argument(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                     const RefId& ref) {
  write_argument_head(out, position, keyword, ArgumentPlace::kOwner, ref);
}

std::optional<TaskMessage> decode_task(Bytes payload) {
  wire::ByteReader in(payload);
  TaskMessage task;
  task.id = in.id<TaskId>();
  task.parent = in.id<TaskId>();
  task.job = in.id<JobId>();
  task.actor = in.id<ActorId>();
  task.attempt = in.u32();
  task.trace = in.id<TraceContext>();
  const auto kind = in.u8();
  task.flags = in.u8();
  task.num_returns = in.u16();
  task.stream_limit = in.u32();
  task.timeout_ms = in.u32();
  task.function = in.id<FunctionId>();
  task.name = in.text(kMaxNameBytes);
  task.method = in.text(kMaxNameBytes);
  task.concurrency_group = in.text(kMaxNameBytes);
  task.placement = in.text(kMaxNameBytes);
  const std::size_t arguments = in.u32();
  if (!in.fits(arguments, 3 + RefId::kBytes)) return std::nullopt;
  task.arguments.reserve(arguments);
  for (std::size_t i = 0; i < arguments && in.ok(); ++i) {
    task.arguments.push_back(read_argument(in));
    if (task.arguments.back().place > ArgumentPlace::kOwner) return std::nullopt;
  }
  task.args = in.blob(kMaxBlobBytes);
  if (!in.ok() || kind > static_cast<std::uint8_t>(TaskKind::kActorMethod)) return std::nullopt;
  task.kind = static_cast<TaskKind>(kind);
  return task;
}

void encode_reply_head(wire::ByteWriter& out, const ReplyMessage& head, std::uint16_t returns) {
  out.id(head.id).u32(head.attempt).u8(static_cast<std::uint8_t>(head.status));
  out.i64(head.start_unix_ns).i64(head.end_unix_ns).u64(head.hold).u16(returns);
}

void encode_return(wire::ByteWriter& out, bool in_plasma, std::uint64_t size_bytes, Bytes value,
                   std::span<const RefId> nested) {
  out.u8(in_plasma ? 1 : 0).u64(size_bytes);
  if (!in_plasma) out.blob(value);
  out.u32(static_cast<std::uint32_t>(nested.size()));
  for (const RefId& ref : nested) write_ref(out, ref);
}

std::optional<ReplyMessage> decode_reply(Bytes payload) {
  wire::ByteReader in(payload);
  ReplyMessage reply;
  reply.id = in.id<TaskId>();
  reply.attempt = in.u32();
  const auto status = in.u8();
  reply.start_unix_ns = in.i64();
  reply.end_unix_ns = in.i64();
  reply.hold = in.u64();
  const std::size_t returns = in.u16();
  if (!in.fits(returns, 1 + 8 + 4)) return std::nullopt;
  reply.returns.reserve(returns);
  for (std::size_t i = 0; i < returns && in.ok(); ++i) reply.returns.push_back(read_return(in));
  if (!in.ok() || status > static_cast<std::uint8_t>(TaskStatus::kCancelled)) return std::nullopt;
  reply.status = static_cast<TaskStatus>(status);
  return reply;
}

void encode_stream_item_head(wire::ByteWriter& out, const StreamItemMessage& head) {
  out.id(head.task).u32(head.attempt).u32(head.index).u64(head.hold);
}

std::optional<StreamItemMessage> decode_stream_item(Bytes payload) {
  wire::ByteReader in(payload);
  StreamItemMessage item;
  item.task = in.id<TaskId>();
  item.attempt = in.u32();
  item.index = in.u32();
  item.hold = in.u64();
  item.value = read_return(in);
  if (!in.ok() || item.index == kEverything) return std::nullopt;
  if (!item.value.in_plasma && !parse_value(item.value.value)) return std::nullopt;
  return item;
}

void encode_stream_taken(wire::ByteWriter& out, const StreamTakenMessage& message) {
  out.id(message.task).u32(message.attempt).u32(message.taken).u8(message.paused ? 1 : 0);
}

std::optional<StreamTakenMessage> decode_stream_taken(Bytes payload) {
  wire::ByteReader in(payload);
  StreamTakenMessage message;
  message.task = in.id<TaskId>();
  message.attempt = in.u32();
  message.taken = in.u32();
  message.paused = in.u8() != 0;
  if (!in.ok()) return std::nullopt;
  return message;
}

std::chrono::nanoseconds run_time_of(const ReplyMessage& reply) {
  const bool possible = reply.start_unix_ns >= 0 && reply.end_unix_ns >= reply.start_unix_ns;
  return std::chrono::nanoseconds(possible ? reply.end_unix_ns - reply.start_unix_ns : 0);
}

bool answers(const ReplyMessage& reply, std::uint32_t num_returns) {
  const auto is_whole = [](const ReturnMessage& value) {
    return value.in_plasma || parse_value(value.value).has_value();
  };
  switch (reply.status) {
    case TaskStatus::kOk:
      return reply.returns.size() == num_returns && std::ranges::all_of(reply.returns, is_whole);
    case TaskStatus::kError:
      return !reply.returns.empty() && !reply.returns[0].in_plasma && is_whole(reply.returns[0]);
    case TaskStatus::kCancelled:  // one that never began has nothing to say
      return std::ranges::all_of(reply.returns, is_whole);
  }
  return false;
}

void encode_overdue(wire::ByteWriter& out, const OverdueMessage& message) {
  out.id(message.task).u32(message.attempt);
}

std::optional<OverdueMessage> decode_overdue(Bytes payload) {
  wire::ByteReader in(payload);
  OverdueMessage message;
  message.task = in.id<TaskId>();
  message.attempt = in.u32();
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_give_back(wire::ByteWriter& out, GiveBackReason reason, std::span<const TaskId> tasks) {
  out.u8(static_cast<std::uint8_t>(reason)).u32(static_cast<std::uint32_t>(tasks.size()));
  for (const TaskId& task : tasks) out.id(task);
}

std::optional<GiveBackMessage> decode_give_back(Bytes payload) {
  wire::ByteReader in(payload);
  GiveBackMessage message;
  message.reason = static_cast<GiveBackReason>(in.u8());
  if (message.reason > GiveBackReason::kLeaving) return std::nullopt;
  const std::size_t count = in.u32();
  if (!in.fits(count, TaskId::kBytes)) return std::nullopt;
  message.tasks.reserve(count);
  for (std::size_t i = 0; i < count; ++i) message.tasks.push_back(in.id<TaskId>());
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_steal(wire::ByteWriter& out, std::uint32_t count) { out.u32(count); }

std::optional<StealMessage> decode_steal(Bytes payload) {
  wire::ByteReader in(payload);
  const StealMessage message{.count = in.u32()};
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_cancel(wire::ByteWriter& out, const TaskId& id, bool recursive) {
  out.id(id).u8(recursive ? 1 : 0);
}

std::optional<CancelMessage> decode_cancel(Bytes payload) {
  wire::ByteReader in(payload);
  CancelMessage message;
  message.id = in.id<TaskId>();
  message.recursive = in.u8() != 0;
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_cancel_asked(wire::ByteWriter& out, const CancelAskedMessage& message) {
  out.id(message.id).u8(message.force ? 1 : 0).u8(message.recursive ? 1 : 0);
}

std::optional<CancelAskedMessage> decode_cancel_asked(Bytes payload) {
  wire::ByteReader in(payload);
  CancelAskedMessage message;
  message.id = in.id<ObjectId>();
  message.force = in.u8() != 0;
  message.recursive = in.u8() != 0;
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_object_get(wire::ByteWriter& out, const ObjectId& id) { out.id(id); }

std::optional<ObjectGetMessage> decode_object_get(Bytes payload) {
  wire::ByteReader in(payload);
  const ObjectGetMessage message{.id = in.id<ObjectId>()};
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_object_value(wire::ByteWriter& out, const ObjectValueMessage& message) {
  out.id(message.id).u8(static_cast<std::uint8_t>(message.state)).u64(message.size_bytes);
  if (message.state == RemoteState::kInline) out.blob(message.value);
  if (message.state == RemoteState::kPlasma) out.u32(message.copy);
  if (message.state == RemoteState::kGone) out.text(message.reason);
}

std::optional<ObjectValueMessage> decode_object_value(Bytes payload) {
  wire::ByteReader in(payload);
  ObjectValueMessage message;
  message.id = in.id<ObjectId>();
  const auto state = in.u8();
  if (state > static_cast<std::uint8_t>(RemoteState::kGone)) return std::nullopt;
  message.state = static_cast<RemoteState>(state);
  message.size_bytes = in.u64();
  if (message.state == RemoteState::kInline) message.value = in.blob(kMaxBlobBytes);
  if (message.state == RemoteState::kPlasma) message.copy = in.u32();
  if (message.state == RemoteState::kGone) message.reason = in.text();
  if (!in.ok()) return std::nullopt;
  if (message.state == RemoteState::kInline && !parse_value(message.value)) return std::nullopt;
  return message;
}

void encode_object_lost(wire::ByteWriter& out, const ObjectLostMessage& message) {
  out.id(message.id).u32(message.copy);
}

std::optional<ObjectLostMessage> decode_object_lost(Bytes payload) {
  wire::ByteReader in(payload);
  ObjectLostMessage message;
  message.id = in.id<ObjectId>();
  message.copy = in.u32();
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_borrow(wire::ByteWriter& out, const ObjectId& id, std::uint64_t generation) {
  out.id(id).u64(generation);
}

std::optional<BorrowMessage> decode_borrow(Bytes payload) {
  wire::ByteReader in(payload);
  BorrowMessage message;
  message.id = in.id<ObjectId>();
  message.generation = in.u64();
  if (!in.ok()) return std::nullopt;
  return message;
}

void encode_return_release(wire::ByteWriter& out, std::uint64_t hold) { out.u64(hold); }

std::optional<ReturnReleaseMessage> decode_return_release(Bytes payload) {
  wire::ByteReader in(payload);
  const ReturnReleaseMessage message{.hold = in.u64()};
  if (!in.ok()) return std::nullopt;
  return message;
}

// A varint behind the tag of field 1.
std::uint64_t control_request_id(Bytes message) {
  if (message.empty() || message[0] != std::byte{0x08}) return 0;
  std::uint64_t value = 0;
  for (std::size_t i = 1, shift = 0; i < message.size() && shift < 64; ++i, shift += 7) {
    value |= static_cast<std::uint64_t>(message[i] & std::byte{0x7f}) << shift;
    if ((message[i] & std::byte{0x80}) == std::byte{0}) return value;
  }
  return 0;
}

std::vector<std::byte> encode_return_lease(std::uint64_t lease) {
  std::vector<std::byte> item, leases, message;
  put_number(item, 1, lease);                           // ReturnLeases.Item.lease_id
  put_bytes(leases, 1, item.data(), item.size());       // ReturnLeases.leases
  put_bytes(message, 5, leases.data(), leases.size());  // ClientMessage.return_leases
  return message;
}

}  // namespace aktis::core
