// Seeds for the decoders of messages between workers: every kind, with every field set.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "fuzz/core_decoders.h"
#include "tests/fuzz_corpus.h"
#include "wire/frame.h"

namespace aktis::core {
namespace {

template <typename T>
T numbered(std::uint8_t number) {
  T id;
  for (std::size_t i = 0; i < T::kBytes; ++i) id.data[i] = static_cast<std::uint8_t>(number + i);
  return id;
}

const TaskId kTask = numbered<TaskId>(1);
const ObjectId kObject = ObjectId::of(kTask, 1);
const RefId kRef{kObject, numbered<WorkerId>(40), numbered<NodeId>(60)};

Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

std::shared_ptr<const OwnedValue> value(ValueKind kind = ValueKind::kPickle) {
  const Bytes buffers[] = {bytes_of("out of band"), bytes_of("more")};
  return OwnedValue::make(kind, bytes_of("in band"), buffers);
}

class Seeds {
 public:
  // As the fuzz target takes it: the kind, then the payload.
  void add(const std::string& name, std::uint8_t kind, Bytes payload) {
    fuzz::Seed seed{static_cast<std::byte>(kind)};
    seed.insert(seed.end(), payload.begin(), payload.end());
    EXPECT_TRUE(decodes(kind, payload).value_or(false)) << name;
    fuzz::expect_seed("core_messages_fuzz", name, seed);
  }
  template <typename Encode>
  void add(const std::string& name, CoreFrame kind, Encode encode) {
    wire::ByteWriter out;
    encode(out);
    add(name, static_cast<std::uint8_t>(kind), out.view());
  }
};

void encode_task(wire::ByteWriter& out, TaskKind kind) {
  TaskTemplate shape;
  shape.kind = kind;
  shape.function = numbered<FunctionId>(80);
  shape.name = "module.name";
  shape.method = "method";
  shape.concurrency_group = "group";
  shape.placement = std::string("placement\0\1", 11);
  shape.num_returns = 2;
  shape.max_retries = kind == TaskKind::kActorMethod ? 0 : 3;
  shape.timeout_ms = 1500;
  shape.speculative = 0.9;
  shape.streaming = kind == TaskKind::kNormal;
  shape.dynamic = kind == TaskKind::kActorCreation;
  shape.stream_limit = 5;
  shape.finish();
  TraceContext trace;
  trace.data[0] = trace.data[24] = 1;
  encode_task_head(out, kTask, numbered<TaskId>(20), numbered<JobId>(100), numbered<ActorId>(120), 3, trace);
  out.raw(shape.encoded.data(), shape.encoded.size()).u32(4);
  encode_argument(out, 0, {}, kRef, value()->view());
  encode_argument(out, 1, {}, kRef, 7);
  encode_argument(out, 2, {}, kRef);
  encode_argument(out, kKeywordPosition, "keyword", kRef, value()->view());
  out.blob(value()->view());
}

void encode_reply(wire::ByteWriter& out, TaskStatus status) {
  ReplyMessage head;
  head.id = kTask;
  head.attempt = 2;
  head.status = status;
  head.start_unix_ns = 5;
  head.end_unix_ns = 9;
  head.hold = 77;
  encode_reply_head(out, head, 2);
  const RefId nested[] = {kRef, kRef};
  const auto kind = status == TaskStatus::kError ? ValueKind::kError : ValueKind::kBytes;
  encode_return(out, false, value()->view().size(), value(kind)->view(), nested);
  encode_return(out, true, 1 << 20, {}, std::span(nested, 1));
}

void encode_item(wire::ByteWriter& out, bool in_plasma) {
  encode_stream_item_head(out, {.task = kTask, .attempt = 1, .index = 3, .hold = 9, .value = {}});
  encode_return(out, in_plasma, 300, in_plasma ? Bytes{} : value()->view(), std::span(&kRef, 1));
}

TEST(CoreSeeds, EveryMessageAndField) {
  Seeds seeds;
  const auto task = [](TaskKind kind) { return [kind](auto& out) { encode_task(out, kind); }; };
  seeds.add("task", CoreFrame::kTask, task(TaskKind::kNormal));
  seeds.add("task_creation", CoreFrame::kTask, task(TaskKind::kActorCreation));
  seeds.add("task_method", CoreFrame::kTask, task(TaskKind::kActorMethod));

  const auto reply = [](TaskStatus status) { return [status](auto& out) { encode_reply(out, status); }; };
  seeds.add("reply", CoreFrame::kTaskReply, reply(TaskStatus::kOk));
  seeds.add("reply_error", CoreFrame::kTaskReply, reply(TaskStatus::kError));
  seeds.add("reply_cancelled", CoreFrame::kTaskReply, reply(TaskStatus::kCancelled));

  const TaskId tasks[] = {kTask, numbered<TaskId>(20)};
  const auto give_back = [&](GiveBackReason reason) {
    return [&tasks, reason](auto& out) { encode_give_back(out, reason, tasks); };
  };
  seeds.add("give_back", CoreFrame::kGiveBack, give_back(GiveBackReason::kStolen));
  seeds.add("give_back_blocked", CoreFrame::kGiveBack, give_back(GiveBackReason::kBlocked));
  seeds.add("give_back_leaving", CoreFrame::kGiveBack, give_back(GiveBackReason::kLeaving));
  seeds.add("steal", CoreFrame::kSteal, [](auto& out) { encode_steal(out, 5); });
  seeds.add("cancel", CoreFrame::kCancel, [](auto& out) { encode_cancel(out, kTask, true); });
  seeds.add("cancel_asked", CoreFrame::kCancelAsked,
            [](auto& out) { encode_cancel_asked(out, {kObject, true, true}); });
  seeds.add("overdue", CoreFrame::kOverdue, [](auto& out) { encode_overdue(out, {kTask, 1}); });
  seeds.add("stream_item", CoreFrame::kStreamItem, [](auto& out) { encode_item(out, false); });
  seeds.add("stream_item_in_store", CoreFrame::kStreamItem, [](auto& out) { encode_item(out, true); });
  seeds.add("stream_taken", CoreFrame::kStreamTaken,
            [](auto& out) { encode_stream_taken(out, {kTask, 1, kEverything, true}); });
}

TEST(CoreSeeds, EveryMessageAboutObjects) {
  Seeds seeds;
  const auto error = value(ValueKind::kError);
  const ObjectValueMessage inline_value{
      .id = kObject, .state = RemoteState::kInline, .size_bytes = 300, .value = error->view()};
  const ObjectValueMessage stored{.id = kObject, .state = RemoteState::kPlasma, .size_bytes = 300, .copy = 2};
  const ObjectValueMessage gone{.id = kObject, .state = RemoteState::kGone, .reason = "freed"};
  const auto encode = [](const ObjectValueMessage& message) {
    return [&message](auto& out) { encode_object_value(out, message); };
  };
  seeds.add("object_value", CoreFrame::kObjectValue, encode(inline_value));
  seeds.add("object_value_in_store", CoreFrame::kObjectValue, encode(stored));
  seeds.add("object_value_gone", CoreFrame::kObjectValue, encode(gone));
  seeds.add("object_free", CoreFrame::kObjectFree, encode(inline_value));
  seeds.add("object_get", CoreFrame::kObjectGet, [](auto& out) { encode_object_get(out, kObject); });
  seeds.add("object_lost", CoreFrame::kObjectLost, [](auto& out) { encode_object_lost(out, {kObject, 3}); });
  const auto borrow = [](auto& out) { encode_borrow(out, kObject, 7); };
  seeds.add("borrow_add", CoreFrame::kBorrowAdd, borrow);
  seeds.add("borrow_ack", CoreFrame::kBorrowAck, borrow);
  seeds.add("borrow_nack", CoreFrame::kBorrowNack, borrow);
  seeds.add("borrow_remove", CoreFrame::kBorrowRemove, borrow);
  seeds.add("return_release", CoreFrame::kReturnRelease, [](auto& out) { encode_return_release(out, 77); });
  const std::byte request[] = {std::byte{0x08}, std::byte{0xac}, std::byte{0x02}};
  seeds.add("request_id", kControlInput, request);
  seeds.add("value", kValueInput, value()->view());
  seeds.add("value_bytes", kValueInput, value(ValueKind::kBytes)->view());
}

TEST(CoreSeeds, EveryKindHasASeedThatDecodes) {
  static_assert(kControlInput == static_cast<std::uint8_t>(wire::FrameType::kControl));
  std::set<std::uint8_t> decoded;
  for (const auto& [name, seed] : fuzz::seeds_of("core_messages_fuzz")) {
    const auto kind = static_cast<std::uint8_t>(seed.at(0));
    if (decodes(kind, Bytes(seed).subspan(1)).value_or(false)) decoded.insert(kind);
  }
  for (int kind = 0; kind < 256; ++kind) {
    const bool exists = decodes(static_cast<std::uint8_t>(kind), {}).has_value();
    EXPECT_EQ(decoded.contains(static_cast<std::uint8_t>(kind)), exists) << "kind " << kind;
  }
}

}  // namespace
}  // namespace aktis::core
