// What workers say to one another: the payloads of frame types 32-63 and their bounded codecs.
//
// Decoded messages view the frame's payload; whoever keeps one copies what it needs. Counts and lengths are
// checked against the input before anything is reserved. Whoever sends what does not decode is hung up on, so
// that nobody waits for what it should have said. Bytes behind a message are left alone: a later minor
// version may have put them there.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/value.h"
#include "wire/codec.h"
#include "wire/ids.h"

namespace aktis::core {

enum class CoreFrame : std::uint16_t {
  kTask = 32,           // owner -> executor
  kTaskReply = 33,      // executor -> owner
  kGiveBack = 34,       // executor -> owner: tasks that it has not started and will not run
  kSteal = 35,          // owner -> executor: give back up to that many
  kCancel = 36,         // owner -> executor
  kObjectGet = 37,      // borrower -> owner: the value, when it is there
  kObjectValue = 38,    // owner -> borrower
  kBorrowAdd = 39,      // borrower -> owner   (rules: core/references.h)
  kBorrowAck = 40,      // owner -> borrower
  kBorrowNack = 41,     // owner -> borrower
  kBorrowRemove = 42,   // borrower -> owner
  kReturnRelease = 43,  // caller -> executor
  kObjectLost = 44,     // borrower -> owner: the copy is not in shared memory; answered by OBJECT_VALUE
  kObjectFree = 45,     // borrower -> owner: let the value go; an OBJECT_VALUE with the error instead of it
  kStreamItem = 46,     // executor -> owner: one item of a streaming generator
  kStreamTaken = 47,    // owner -> executor: how many items its consumer has taken
  kOverdue = 48,        // executor -> owner: the task has run for longer than its timeout
  kCancelAsked = 49,    // borrower -> owner: cancel the task that makes an object
};

// A reference as it travels: whose it is and where the owner lives.
struct RefId {
  ObjectId id;
  WorkerId owner;
  NodeId node;
  static constexpr std::size_t kBytes = 20 + 16 + 16;
};

// W3C trace context: 16 bytes trace id, 8 bytes span id, flags.
struct TraceContext {
  std::uint8_t data[25] = {};
};

enum class TaskKind : std::uint8_t { kNormal = 0, kActorCreation = 1, kActorMethod = 2 };

inline constexpr std::uint8_t kTaskAtMostOnce = 1;  // max_retries 0: its reply is never delayed
inline constexpr std::uint8_t kTaskStreaming = 2;   // its items travel as they come, then the reply
inline constexpr std::uint8_t kTaskDynamic = 4;     // its one return is a list of as many as there are
inline constexpr std::uint8_t kTaskSpeculative =
    8;  // may run twice at once: its owner removes what it stored

// The part of a task that all calls of one remote function share, encoded once.
struct TaskTemplate {
  std::uint64_t class_key = 0;
  TaskKind kind = TaskKind::kNormal;
  FunctionId function;
  std::string name;
  std::string method;
  std::string concurrency_group;
  std::string placement;  // opaque: the placement group that the task runs in
  std::uint16_t num_returns = 1;
  std::int32_t max_retries = 0;  // -1: without limit
  std::uint32_t timeout_ms = 0;  // that a run may take; 0: any time
  std::int32_t priority = 0;     // the owner's: higher goes first
  std::uint32_t max_calls = 0;   // the owner's: a worker ends after so many runs; 0: it does not
  double speculative = 0;        // the owner's: the quantile beyond which it runs twice; 0: it does not
  bool retry_on_error = false;
  bool streaming = false;
  bool dynamic = false;
  std::uint32_t stream_limit = 0;  // items that may wait for their consumer; 0: any number
  std::uint64_t retry_key = 0;     // Python's, for which errors; comes back in EVENT_TASK_ERROR
  std::vector<std::byte> encoded;  // made by finish()

  void finish();
};

inline constexpr std::uint16_t kKeywordPosition = 0xffff;

enum class ArgumentPlace : std::uint8_t {
  kInline = 0,
  kPlasma = 1,
  kOwner = 2,  // to be asked for: with all values inline the task would be too large
};

// An argument that was an ObjectRef: where it goes, and what it resolved to.
struct ArgumentMessage {
  std::uint16_t position = 0;  // kKeywordPosition: `keyword` names it
  std::string_view keyword;
  ArgumentPlace place = ArgumentPlace::kInline;
  std::uint32_t copy = 0;  // kPlasma: which copy (core/objects.h)
  Bytes value;             // kInline: a serialized value
  RefId ref;               // of the object (always set: it covers references nested in it)
};

struct TaskMessage {
  TaskId id;
  TaskId parent;
  JobId job;
  ActorId actor;
  std::uint32_t attempt = 0;
  TraceContext trace;
  TaskKind kind = TaskKind::kNormal;
  std::uint8_t flags = 0;
  std::uint16_t num_returns = 1;
  std::uint32_t stream_limit = 0;
  std::uint32_t timeout_ms = 0;
  FunctionId function;
  std::string_view name;
  std::string_view method;
  std::string_view concurrency_group;
  std::string_view placement;
  std::vector<ArgumentMessage> arguments;
  Bytes args;  // a serialized value: (args, kwargs) with None where an argument goes
};

// The head (what differs per call) of a task; template.encoded, the arguments and the value follow it.
void encode_task_head(wire::ByteWriter& out, const TaskId& id, const TaskId& parent, const JobId& job,
                      const ActorId& actor, std::uint32_t attempt, const TraceContext& trace);
// An argument in shared memory (`copy`), one with its value, or one that its owner is asked for.
void encode_argument(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                     const RefId& ref, std::uint32_t copy);
void encode_argument(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                     const RefId& ref, Bytes value);
void encode_argument(wire::ByteWriter& out, std::uint16_t position, std::string_view keyword,
                     const RefId& ref);
std::optional<TaskMessage> decode_task(Bytes payload);

enum class TaskStatus : std::uint8_t { kOk = 0, kError = 1, kCancelled = 2 };

struct ReturnMessage {
  bool in_plasma = false;
  std::uint64_t size_bytes = 0;
  Bytes value;
  std::vector<RefId> nested;
};

struct ReplyMessage {
  TaskId id;
  std::uint32_t attempt = 0;
  TaskStatus status = TaskStatus::kOk;
  std::int64_t start_unix_ns = 0;
  std::int64_t end_unix_ns = 0;
  std::uint64_t hold = 0;              // of the references in the returns (ReferenceTable::hold_return)
  std::vector<ReturnMessage> returns;  // for kError: one, the exception
};
void encode_reply_head(wire::ByteWriter& out, const ReplyMessage& head, std::uint16_t returns);
void encode_return(wire::ByteWriter& out, bool in_plasma, std::uint64_t size_bytes, Bytes value,
                   std::span<const RefId> nested);
std::optional<ReplyMessage> decode_reply(Bytes payload);
// How long the task ran by its executor's clock; zero when that was set back meanwhile, or is none.
std::chrono::nanoseconds run_time_of(const ReplyMessage& reply);
// Whether it can be the answer to a task with so many returns: the right number of whole values, or an error.
bool answers(const ReplyMessage& reply, std::uint32_t num_returns);

// `taken` when the consumer is gone: nothing waits for it any more.
inline constexpr std::uint32_t kEverything = 0xffffffff;

struct StreamItemMessage {
  TaskId task;
  std::uint32_t attempt = 0;
  std::uint32_t index = 0;
  std::uint64_t hold = 0;  // of the references in the item
  ReturnMessage value;
};
void encode_stream_item_head(wire::ByteWriter& out, const StreamItemMessage& head);  // encode_return follows
std::optional<StreamItemMessage> decode_stream_item(Bytes payload);

struct StreamTakenMessage {
  TaskId task;
  std::uint32_t attempt = 0;
  std::uint32_t taken = 0;
  bool paused = false;  // the executor waits before the next item, whatever the limit
};
void encode_stream_taken(wire::ByteWriter& out, const StreamTakenMessage& message);
std::optional<StreamTakenMessage> decode_stream_taken(Bytes payload);

struct OverdueMessage {
  TaskId task;
  std::uint32_t attempt = 0;
};
void encode_overdue(wire::ByteWriter& out, const OverdueMessage& message);
std::optional<OverdueMessage> decode_overdue(Bytes payload);

enum class GiveBackReason : std::uint8_t {
  kStolen = 0,
  kBlocked = 1,  // the executor waits in get(): it is of no use until its next reply
  kLeaving = 2,  // it ends: what it has not answered so far it has not begun and never will
};
struct GiveBackMessage {
  GiveBackReason reason = GiveBackReason::kStolen;
  std::vector<TaskId> tasks;
};
void encode_give_back(wire::ByteWriter& out, GiveBackReason reason, std::span<const TaskId> tasks);
std::optional<GiveBackMessage> decode_give_back(Bytes payload);

struct StealMessage {
  std::uint32_t count = 0;
};
void encode_steal(wire::ByteWriter& out, std::uint32_t count);
std::optional<StealMessage> decode_steal(Bytes payload);

struct CancelMessage {
  TaskId id;
  bool recursive = false;
};
void encode_cancel(wire::ByteWriter& out, const TaskId& id, bool recursive);
std::optional<CancelMessage> decode_cancel(Bytes payload);

struct CancelAskedMessage {
  ObjectId id;
  bool force = false;
  bool recursive = false;
};
void encode_cancel_asked(wire::ByteWriter& out, const CancelAskedMessage& message);
std::optional<CancelAskedMessage> decode_cancel_asked(Bytes payload);

struct ObjectGetMessage {
  ObjectId id;
};
void encode_object_get(wire::ByteWriter& out, const ObjectId& id);
std::optional<ObjectGetMessage> decode_object_get(Bytes payload);

enum class RemoteState : std::uint8_t { kInline = 0, kPlasma = 1, kGone = 2 };
struct ObjectValueMessage {
  ObjectId id;
  RemoteState state = RemoteState::kGone;
  std::uint64_t size_bytes = 0;
  std::uint32_t copy = 0;        // kPlasma
  Bytes value = {};              // kInline
  std::string_view reason = {};  // kGone
};
void encode_object_value(wire::ByteWriter& out, const ObjectValueMessage& message);
std::optional<ObjectValueMessage> decode_object_value(Bytes payload);

struct ObjectLostMessage {
  ObjectId id;
  std::uint32_t copy = 0;  // the one that was looked for
};
void encode_object_lost(wire::ByteWriter& out, const ObjectLostMessage& message);
std::optional<ObjectLostMessage> decode_object_lost(Bytes payload);

struct BorrowMessage {
  ObjectId id;
  std::uint64_t generation = 0;
};
void encode_borrow(wire::ByteWriter& out, const ObjectId& id, std::uint64_t generation);
std::optional<BorrowMessage> decode_borrow(Bytes payload);

struct ReturnReleaseMessage {
  std::uint64_t hold = 0;
};
void encode_return_release(wire::ByteWriter& out, std::uint64_t hold);
std::optional<ReturnReleaseMessage> decode_return_release(Bytes payload);

// Of the raylet's messages only this is looked at here: the request id, field 1 of a RayletMessage. 0 when it
// does not begin with one: it answers nothing.
std::uint64_t control_request_id(Bytes message);
// A serialized ClientMessage{return_leases{leases{lease_id}}}: what the core itself says to the raylet.
std::vector<std::byte> encode_return_lease(std::uint64_t lease);

}  // namespace aktis::core
