// The codecs of worker-to-worker messages.
#include <gtest/gtest.h>

#include <cstring>

#include "core/messages.h"

namespace aktis::core {
namespace {

std::vector<std::byte> encoded_task(std::size_t arguments) {
  TaskTemplate shape;
  shape.kind = TaskKind::kActorMethod;
  shape.name = "Counter.add";
  shape.method = "add";
  shape.concurrency_group = "io";
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
  EXPECT_EQ(task->num_returns, 2);
  EXPECT_EQ(task->attempt, 3u);
  EXPECT_EQ(task->trace.data[24], 1);
  ASSERT_EQ(task->arguments.size(), 3u);
  EXPECT_FALSE(task->arguments[0].in_plasma);
  EXPECT_TRUE(parse_value(task->arguments[0].value));
  EXPECT_TRUE(task->arguments[1].in_plasma);
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

TEST(MessagesTest, SmallMessagesRoundTrip) {
  const TaskId ids[] = {TaskId::random(), TaskId::random()};
  wire::ByteWriter give_back;
  encode_give_back(give_back, true, ids);
  const auto given = decode_give_back(give_back.view());
  ASSERT_TRUE(given);
  EXPECT_TRUE(given->blocked);
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

}  // namespace
}  // namespace aktis::core
