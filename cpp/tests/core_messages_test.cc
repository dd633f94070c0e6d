// The codecs of worker-to-worker messages.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/messages.h"

namespace aktis::core {
namespace {

std::vector<std::byte> encoded_task(std::size_t arguments) {
  TaskTemplate shape;
  shape.kind = TaskKind::kActorMethod;
  shape.name = "Counter.add";
  shape.method = "add";
  shape.concurrency_group = "io";
  shape.placement = std::string("group\0x", 7);
  shape.num_returns = 2;
  shape.function = FunctionId::random();
  shape.finish();
  wire::ByteWriter out;
  TraceContext trace;
  trace.data[24] = 1;
  encode_task_head(out, TaskId::random(), TaskId::random(), JobId::random(), ActorId::random(), 3, trace);
  out.raw(shape.encoded.data(), shape.encoded.size());
  out.u32(static_cast<std::uint32_t>(arguments));
  const RefId ref{ObjectId::of(TaskId::random(), 1), WorkerId::random(), NodeId::random()};
  const auto value = OwnedValue::make(ValueKind::kPickle, {}, {});
  for (std::size_t i = 0; i < arguments; ++i) {
    if (i % 2 == 0) {
      encode_argument(out, static_cast<std::uint16_t>(i), {}, ref, value->view());
    } else {
      encode_argument(out, kKeywordPosition, "keyword", ref, 7);
    }
  }
  out.blob(value->view());
  return out.take();
}

TEST(MessagesTest, TaskRoundTrip) {
  const auto raw = encoded_task(3);
  const auto task = decode_task(raw);
  ASSERT_TRUE(task);
  EXPECT_EQ(task->kind, TaskKind::kActorMethod);
  EXPECT_EQ(task->flags, kTaskAtMostOnce);
  EXPECT_EQ(task->name, "Counter.add");
  EXPECT_EQ(task->method, "add");
  EXPECT_EQ(task->concurrency_group, "io");
  EXPECT_EQ(task->placement, std::string_view("group\0x", 7));
  EXPECT_EQ(task->num_returns, 2);
  EXPECT_EQ(task->attempt, 3u);
  EXPECT_EQ(task->trace.data[24], 1);
  ASSERT_EQ(task->arguments.size(), 3u);
  EXPECT_EQ(task->arguments[0].place, ArgumentPlace::kInline);
  EXPECT_TRUE(parse_value(task->arguments[0].value));
  EXPECT_EQ(task->arguments[1].place, ArgumentPlace::kPlasma);
  EXPECT_EQ(task->arguments[1].copy, 7u);
  EXPECT_EQ(task->arguments[1].keyword, "keyword");
  EXPECT_TRUE(parse_value(task->args));
}

TEST(MessagesTest, EveryTruncationOfATaskIsRefused) {
  const auto raw = encoded_task(3);
  for (std::size_t size = 0; size < raw.size(); ++size)
    EXPECT_FALSE(decode_task(Bytes(raw).first(size))) << size;
}

TEST(MessagesTest, ACountBeyondTheInputIsRefusedBeforeAllocation) {
  auto raw = encoded_task(0);
  const std::size_t count_at = raw.size() - 4 - 4 - kValueHeaderBytes;
  const std::uint32_t huge = 0xffffffff;
  std::memcpy(&raw[count_at], &huge, 4);
  EXPECT_FALSE(decode_task(raw));
}

TEST(MessagesTest, ReplyRoundTrip) {
  ReplyMessage head;
  head.id = TaskId::random();
  head.attempt = 2;
  head.status = TaskStatus::kError;
  head.start_unix_ns = 5;
  head.end_unix_ns = 9;
  head.hold = 77;
  const RefId nested[] = {{ObjectId::of(head.id, 0), WorkerId::random(), NodeId::random()}};
  wire::ByteWriter out;
  encode_reply_head(out, head, 2);
  const auto value = OwnedValue::make(ValueKind::kError, {}, {});
  encode_return(out, false, 16, value->view(), nested);
  encode_return(out, true, 1 << 20, {}, {});
  const auto raw = out.take();
  const auto reply = decode_reply(raw);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->id, head.id);
  EXPECT_EQ(reply->status, TaskStatus::kError);
  EXPECT_EQ(reply->hold, 77u);
  ASSERT_EQ(reply->returns.size(), 2u);
  EXPECT_EQ(reply->returns[0].nested[0].owner, nested[0].owner);
  EXPECT_TRUE(reply->returns[1].in_plasma);
  EXPECT_EQ(reply->returns[1].size_bytes, 1u << 20);
  for (std::size_t size = 0; size < raw.size(); ++size)
    EXPECT_FALSE(decode_reply(Bytes(raw).first(size))) << size;
}

TEST(MessagesTest, ARunTimeThatCannotBeIsNone) {
  using std::chrono::nanoseconds;
  const auto run_time = [](std::int64_t start_unix_ns, std::int64_t end_unix_ns) {
    return run_time_of({.start_unix_ns = start_unix_ns, .end_unix_ns = end_unix_ns});
  };
  constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(run_time(5, 9), nanoseconds(4));
  EXPECT_EQ(run_time(0, kMost), nanoseconds(kMost));
  EXPECT_EQ(run_time(9, 5), nanoseconds(0));  // the clock was set back
  EXPECT_EQ(run_time(kLeast, 1), nanoseconds(0));
  EXPECT_EQ(run_time(1, kLeast), nanoseconds(0));
}

TEST(MessagesTest, SmallMessagesRoundTrip) {
  const TaskId ids[] = {TaskId::random(), TaskId::random()};
  wire::ByteWriter give_back;
  encode_give_back(give_back, GiveBackReason::kBlocked, ids);
  const auto given = decode_give_back(give_back.view());
  ASSERT_TRUE(given);
  EXPECT_EQ(given->reason, GiveBackReason::kBlocked);
  EXPECT_EQ(given->tasks[1], ids[1]);

  wire::ByteWriter borrow;
  encode_borrow(borrow, ObjectId::of(ids[0], 3), 12);
  EXPECT_EQ(decode_borrow(borrow.view())->generation, 12u);

  wire::ByteWriter gone;
  encode_object_value(gone, {.id = ObjectId::of(ids[0], 3), .reason = "freed"});
  EXPECT_EQ(decode_object_value(gone.view())->reason, "freed");

  wire::ByteWriter stored;
  encode_object_value(stored, {.id = {}, .state = RemoteState::kPlasma, .size_bytes = 5, .copy = 2});
  EXPECT_EQ(decode_object_value(stored.view())->copy, 2u);
}

TEST(MessagesTest, AnUnknownReasonToGiveBackIsRefused) {
  wire::ByteWriter out;
  encode_give_back(out, static_cast<GiveBackReason>(3), {});
  EXPECT_FALSE(decode_give_back(out.view()));
}

TEST(MessagesTest, AnArgumentMayBeLeftToItsOwner) {
  TaskTemplate shape;
  shape.timeout_ms = 1500;
  shape.finish();
  const RefId ref{ObjectId::of(TaskId::random(), 3), WorkerId::random(), NodeId{}};
  wire::ByteWriter out;
  encode_task_head(out, TaskId::random(), TaskId{}, JobId{}, ActorId{}, 0, TraceContext{});
  out.raw(shape.encoded.data(), shape.encoded.size()).u32(1);
  encode_argument(out, 2, {}, ref);
  const auto args = OwnedValue::make(ValueKind::kPickle, {}, {});
  out.blob(args->view());
  const auto task = decode_task(out.view());
  ASSERT_TRUE(task);
  EXPECT_EQ(task->timeout_ms, 1500u);
  ASSERT_EQ(task->arguments.size(), 1u);
  EXPECT_EQ(task->arguments[0].place, ArgumentPlace::kOwner);
  EXPECT_EQ(task->arguments[0].ref.owner, ref.owner);
}

TEST(MessagesTest, ALostObjectNamesItsCopyAndEveryTruncationIsRefused) {
  const ObjectId id = ObjectId::of(TaskId::random(), 1);
  wire::ByteWriter out;
  encode_object_lost(out, {id, 3});
  const auto message = decode_object_lost(out.view());
  ASSERT_TRUE(message);
  EXPECT_EQ(message->id, id);
  EXPECT_EQ(message->copy, 3u);
  for (std::size_t length = 0; length < out.size(); ++length) {
    EXPECT_FALSE(decode_object_lost(out.view().first(length))) << length;
  }
}

TEST(MessagesTest, EveryTruncationOfASmallMessageIsRefused) {
  const TaskId task = TaskId::random();
  const ObjectId object = ObjectId::of(task, 3);
  const auto refused = [](const wire::ByteWriter& whole, auto decode) {
    for (std::size_t size = 0; size < whole.size(); ++size) {
      if (decode(whole.view().first(size))) return false;
    }
    return decode(whole.view()).has_value();
  };
  wire::ByteWriter steal, cancel, get, release, give_back, borrow, value, gone, overdue, asked;
  encode_steal(steal, 7);
  encode_cancel(cancel, task, true);
  encode_object_get(get, object);
  encode_return_release(release, 77);
  encode_give_back(give_back, GiveBackReason::kBlocked, std::span(&task, 1));
  encode_borrow(borrow, object, 5);
  encode_overdue(overdue, {task, 2});
  encode_cancel_asked(asked, {object, true, false});
  const auto owned = OwnedValue::make(ValueKind::kPickle, {}, {});
  encode_object_value(value, {.id = object, .state = RemoteState::kInline, .value = owned->view()});
  encode_object_value(gone, {.id = object, .state = RemoteState::kGone, .reason = "freed"});
  EXPECT_TRUE(refused(steal, decode_steal));
  EXPECT_TRUE(refused(cancel, decode_cancel));
  EXPECT_TRUE(refused(get, decode_object_get));
  EXPECT_TRUE(refused(release, decode_return_release));
  EXPECT_TRUE(refused(give_back, decode_give_back));
  EXPECT_TRUE(refused(overdue, decode_overdue));
  EXPECT_TRUE(refused(asked, decode_cancel_asked));
  EXPECT_TRUE(refused(borrow, decode_borrow));
  EXPECT_TRUE(refused(value, decode_object_value));
  EXPECT_TRUE(refused(gone, decode_object_value));
  EXPECT_EQ(decode_steal(steal.view())->count, 7u);
  EXPECT_EQ(decode_cancel(cancel.view())->id, task);
  EXPECT_TRUE(decode_cancel(cancel.view())->recursive);
  EXPECT_EQ(decode_object_get(get.view())->id, object);
  EXPECT_EQ(decode_return_release(release.view())->hold, 77u);
}

TEST(MessagesTest, AnObjectWhoseValueDoesNotDecodeIsRefused) {
  wire::ByteWriter out;
  const std::byte nonsense[7] = {};
  encode_object_value(
      out, {.id = ObjectId::of(TaskId::random(), 0), .state = RemoteState::kInline, .value = nonsense});
  EXPECT_FALSE(decode_object_value(out.view()));
}

TEST(MessagesTest, OnlyWhatFitsItsTaskAnswersIt) {
  const auto value = OwnedValue::make(ValueKind::kPickle, {}, {});
  const std::byte nonsense[3] = {};
  const ReturnMessage whole{.value = value->view()}, broken{.value = nonsense}, stored{.in_plasma = true};
  const auto reply = [](TaskStatus status, std::vector<ReturnMessage> returns) {
    ReplyMessage message;
    message.status = status;
    message.returns = std::move(returns);
    return message;
  };
  EXPECT_TRUE(answers(reply(TaskStatus::kOk, {}), 0));
  EXPECT_TRUE(answers(reply(TaskStatus::kOk, {whole, stored}), 2));
  EXPECT_FALSE(answers(reply(TaskStatus::kOk, {whole}), 2));
  EXPECT_FALSE(answers(reply(TaskStatus::kOk, {whole, broken}), 2));
  EXPECT_TRUE(answers(reply(TaskStatus::kError, {whole}), 3));
  EXPECT_FALSE(answers(reply(TaskStatus::kError, {}), 1));
  EXPECT_FALSE(answers(reply(TaskStatus::kError, {stored}), 1));
  EXPECT_FALSE(answers(reply(TaskStatus::kError, {broken}), 1));
  EXPECT_TRUE(answers(reply(TaskStatus::kCancelled, {}), 1));
  EXPECT_FALSE(answers(reply(TaskStatus::kCancelled, {broken}), 1));
}

// ClientMessage.return_leases (5), ReturnLeases.leases (1), Item.lease_id (1).
TEST(MessagesTest, AReturnedLeaseIsWhatProtobufWouldWrite) {
  const auto bytes = [](std::initializer_list<int> values) {
    std::vector<std::byte> result;
    for (const int value : values) result.push_back(static_cast<std::byte>(value));
    return result;
  };
  EXPECT_EQ(encode_return_lease(1), bytes({0x2a, 4, 0x0a, 2, 0x08, 1}));
  EXPECT_EQ(encode_return_lease(300), bytes({0x2a, 5, 0x0a, 3, 0x08, 0xac, 0x02}));
}

TEST(MessagesTest, TheRequestIdOfAControlMessage) {
  const auto id_of = [](std::vector<std::uint8_t> bytes) {
    return control_request_id(Bytes(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
  };
  EXPECT_EQ(id_of({0x08, 0x05, 0x12, 0x00}), 5u);
  EXPECT_EQ(id_of({0x08, 0xac, 0x02}), 300u);
  EXPECT_EQ(id_of({0x12, 0x05}), 0u);  // begins with another field
  EXPECT_EQ(id_of({}), 0u);
  EXPECT_EQ(id_of({0x08, 0xff}), 0u);                         // cut off
  EXPECT_EQ(id_of(std::vector<std::uint8_t>(20, 0x88)), 0u);  // never ends
}

}  // namespace
}  // namespace aktis::core
