// Seeds for a whole core and its peer: what the two do in earnest, in every kind of message.
#include <gtest/gtest.h>

#include <set>

#include "fuzz/core_decoders.h"
#include "fuzz/core_script.h"
#include "tests/fuzz_corpus.h"

namespace aktis::fuzz {
namespace {

using namespace aktis::core;

class Script {
 public:
  explicit Script(std::uint8_t kind) { out_.u8(kind); }
  Script& act(Act what, std::uint8_t which = 0) {
    out_.u8(static_cast<std::uint8_t>(what)).u16(1).u8(which);
    return *this;
  }
  template <typename Encode>
  Script& frame(CoreFrame type, Encode encode) {
    wire::ByteWriter payload;
    encode(payload);
    out_.u8(static_cast<std::uint8_t>(type)).u16(static_cast<std::uint16_t>(payload.size()));
    out_.raw(payload.view().data(), payload.size());
    return *this;
  }
  void expect(const std::string& name) const { expect_seed("core_peer_fuzz", name, out_.view()); }

 private:
  wire::ByteWriter out_;
};

const TaskId kTheirs = task_of(kPeer, 9);
const ObjectId kTheirObject = ObjectId::of(task_of(kPeer, 2), 0);
const RefId kTheirRef{kTheirObject, kPeer, {}};

std::shared_ptr<const OwnedValue> value(ValueKind kind = ValueKind::kPickle) {
  const std::byte content[] = {std::byte{7}};
  return OwnedValue::make(kind, content, {});
}

auto task(const TaskId& id, const ActorId& actor = {}, bool streaming = false) {
  return [=](wire::ByteWriter& out) {
    TaskTemplate shape{.name = "theirs", .streaming = streaming, .stream_limit = 1};
    if (!actor.is_nil()) shape.kind = TaskKind::kActorMethod;
    shape.finish();
    encode_task_head(out, id, {}, {}, actor, 0, {});
    out.raw(shape.encoded.data(), shape.encoded.size()).u32(3);
    encode_argument(out, 0, {}, kTheirRef, value()->view());
    encode_argument(out, 1, {}, {kBorrowed, kPeer, {}}, 1);
    encode_argument(out, kKeywordPosition, "own", {kOuter, kSelf, {}});
    out.blob(value()->view());
  };
}

auto reply(const TaskId& id, TaskStatus status = TaskStatus::kOk, std::uint16_t returns = 1,
           std::uint64_t hold = 0, std::uint32_t attempt = 0) {
  return [=](wire::ByteWriter& out) {
    ReplyMessage head;
    head.id = id;
    head.attempt = attempt;
    head.status = status;
    head.end_unix_ns = 1000;
    head.hold = hold;
    encode_reply_head(out, head, returns);
    const auto content = value(status == TaskStatus::kError ? ValueKind::kError : ValueKind::kPickle);
    const std::span nested(&kTheirRef, hold == 0 ? 0 : 1);
    for (int i = 0; i < returns; ++i) encode_return(out, false, 17, content->view(), nested);
  };
}

auto item(std::uint32_t index, bool in_plasma = false) {
  return [=](wire::ByteWriter& out) {
    encode_stream_item_head(out, {.task = kGenerator, .index = index, .hold = index, .value = {}});
    encode_return(out, in_plasma, 17, in_plasma ? Bytes{} : value()->view(), std::span(&kTheirRef, 1));
  };
}

auto borrow(const ObjectId& id, std::uint64_t generation) {
  return [=](wire::ByteWriter& out) { encode_borrow(out, id, generation); };
}

auto give_back(GiveBackReason reason, const TaskId& id) {
  return [=](wire::ByteWriter& out) { encode_give_back(out, reason, std::span(&id, 1)); };
}

auto object_value(const ObjectId& id, RemoteState state, ValueKind kind = ValueKind::kPickle) {
  return [=](wire::ByteWriter& out) {
    const auto content = value(kind);
    encode_object_value(out, {.id = id, .state = state, .value = content->view(), .reason = "freed"});
  };
}

TEST(PeerSeeds, WhatAnExecutorIsTold) {
  const auto steal = [](auto& out) { encode_steal(out, 1); };
  Script run(kIsWorker);
  run.frame(CoreFrame::kTask, task(kTheirs)).act(Act::kExecute).act(Act::kFinish);
  run.frame(CoreFrame::kBorrowAck, borrow(kTheirObject, 2)).act(Act::kDrop).act(Act::kPass);
  run.frame(CoreFrame::kReturnRelease, [](auto& out) { encode_return_release(out, 1); });
  run.expect("executes");

  Script fails(kIsWorker);
  fails.frame(CoreFrame::kTask, task(kTheirs)).act(Act::kExecute);
  fails.frame(CoreFrame::kCancel, [](auto& out) { encode_cancel(out, kTheirs, true); });
  fails.act(Act::kDecide).act(Act::kFinish, 2).expect("executes_cancelled");

  Script queued(kIsWorker);
  for (std::uint64_t i = 0; i < 4; ++i) queued.frame(CoreFrame::kTask, task(task_of(kPeer, i)));
  queued.frame(CoreFrame::kSteal, steal).act(Act::kLook, 9);
  queued.frame(CoreFrame::kCancel, [](auto& out) { encode_cancel(out, task_of(kPeer, 1), false); });
  queued.act(Act::kExecute).act(Act::kFinish, 1).expect("queued");

  Script streams(kIsWorker);
  streams.frame(CoreFrame::kTask, task(kTheirs, {}, true)).act(Act::kExecute).act(Act::kItem).act(Act::kItem);
  streams.frame(CoreFrame::kStreamTaken, [](auto& out) { encode_stream_taken(out, {kTheirs, 0, 1, true}); });
  streams.act(Act::kItem).act(Act::kFinish).expect("streams");

  Script called(kIsWorker | kIsActor);
  called.frame(CoreFrame::kTask, task(kTheirs, kActor)).frame(CoreFrame::kTask, task(task_of(kPeer, 3)));
  called.act(Act::kExecute).act(Act::kFinish).expect("is_called");
}

TEST(PeerSeeds, WhatAnOwnerOfTasksIsTold) {
  Script replies(0);
  replies.frame(CoreFrame::kTaskReply, reply(kPlain, TaskStatus::kOk, 2, 5));
  replies.frame(CoreFrame::kTaskReply, reply(kDependent)).act(Act::kLook, 3);
  replies.frame(CoreFrame::kTaskReply, reply(kCall)).frame(CoreFrame::kTaskReply, reply(kSecondCall));
  replies.act(Act::kDecide).act(Act::kDrop, 3).expect("replies");

  Script errors(0);
  errors.frame(CoreFrame::kTaskReply, reply(kPlain)).expect("reply_of_another_size");

  Script retries(0);
  retries.frame(CoreFrame::kTaskReply, reply(kPlain, TaskStatus::kError, 1, 3));
  retries.frame(CoreFrame::kTaskReply, reply(kGenerator));
  retries.frame(CoreFrame::kTaskReply, reply(kRetried, TaskStatus::kError, 1, 4));
  retries.act(Act::kDecide).act(Act::kPass);
  retries.frame(CoreFrame::kTaskReply, reply(kRetried, TaskStatus::kOk, 1, 0, 1)).expect("retries");

  Script items(0);
  items.frame(CoreFrame::kTaskReply, reply(kPlain, TaskStatus::kOk, 2));
  for (std::uint32_t i = 0; i < 3; ++i) items.frame(CoreFrame::kStreamItem, item(i, i == 2));
  items.frame(CoreFrame::kTaskReply, reply(kGenerator)).expect("items");

  Script back(0);
  back.frame(CoreFrame::kGiveBack, give_back(GiveBackReason::kStolen, kPlain));
  back.frame(CoreFrame::kGiveBack, give_back(GiveBackReason::kBlocked, kPlain));
  back.act(Act::kCancel, 0).frame(CoreFrame::kGiveBack, give_back(GiveBackReason::kLeaving, kPlain));
  back.frame(CoreFrame::kOverdue, [](auto& out) { encode_overdue(out, {kGenerator, 0}); });
  back.frame(CoreFrame::kCancelAsked,
             [](auto& out) { encode_cancel_asked(out, {ObjectId::of(kRetried, 0), false, true}); });
  back.act(Act::kDecide).act(Act::kFree, 2).expect("gives_back");
}

// Found by the fuzzer.
TEST(PeerSeeds, WhatOnceBrokeTheCore) {
  Script before_time(0);
  before_time.frame(CoreFrame::kTaskReply, [](auto& out) {
    encode_reply_head(out, {.id = kPlain, .status = TaskStatus::kError, .start_unix_ns = INT64_MIN}, 1);
    encode_return(out, false, 17, value(ValueKind::kError)->view(), {});
  });
  before_time.expect("reply_from_before_time");
}

TEST(PeerSeeds, WhatIsSaidOfObjects) {
  Script owner(0);
  owner.frame(CoreFrame::kObjectGet, [](auto& out) { encode_object_get(out, kOuter); });
  owner.frame(CoreFrame::kBorrowAdd, borrow(kInner, 1)).frame(CoreFrame::kBorrowAdd, borrow(kTheirObject, 2));
  owner.act(Act::kDrop).act(Act::kDrop).frame(CoreFrame::kBorrowRemove, borrow(kInner, 1));
  owner.frame(CoreFrame::kObjectLost,
              [](auto& out) { encode_object_lost(out, {ObjectId::of(kPlain, 0), 0}); });
  owner.frame(CoreFrame::kObjectFree,
              object_value(ObjectId::of(kPlain, 1), RemoteState::kInline, ValueKind::kError));
  owner.act(Act::kDecide).expect("owns");

  Script borrows(0);
  borrows.frame(CoreFrame::kBorrowAck, borrow(kBorrowed, 1));
  borrows.frame(CoreFrame::kObjectValue, object_value(kBorrowed, RemoteState::kInline)).act(Act::kLook, 9);
  borrows.expect("borrows");

  Script refused(0);
  refused.frame(CoreFrame::kBorrowNack, borrow(kBorrowed, 1));
  refused.frame(CoreFrame::kObjectValue, object_value(kBorrowed, RemoteState::kGone)).act(Act::kDecide);
  refused.expect("borrows_in_vain");
}

TEST(PeerSeeds, EveryKindOfMessageOccurs) {
  std::set<int> seen;
  for (const auto& [name, seed] : seeds_of("core_peer_fuzz")) {
    auto rest = std::span(seed).subspan(1);
    while (const auto step = next_step(rest)) seen.insert(step->what);
  }
  for (int kind = 0; kind < 256; ++kind) {
    const bool exists = kind > static_cast<int>(Act::kLast)
                            ? kind >= 32 && decodes(static_cast<std::uint8_t>(kind), {}).has_value()
                            : true;
    EXPECT_TRUE(!exists || seen.contains(kind)) << "no seed has a step " << kind;
  }
}

}  // namespace
}  // namespace aktis::fuzz
