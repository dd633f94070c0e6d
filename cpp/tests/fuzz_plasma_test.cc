// Seeds for a store and for its clients: every frame and every operation.
#include <gtest/gtest.h>

#include <set>

#include "fuzz/plasma_scripts.h"
#include "tests/fuzz_corpus.h"
#include "tests/plasma_engine_harness.h"

namespace aktis::fuzz {
namespace {

using namespace aktis::plasma;
using plasma::testing::numbered_object;
using plasma::testing::numbered_worker;

class Script {
 public:
  Script& step(std::uint8_t what, std::span<const std::byte> payload) {
    out_.u8(what).u8(static_cast<std::uint8_t>(payload.size())).raw(payload.data(), payload.size());
    return *this;
  }
  // To a store.
  Script& store(StoreStep kind, std::span<const std::byte> payload, std::uint8_t client = 0) {
    return step(static_cast<std::uint8_t>(client | static_cast<unsigned>(kind) << 2), payload);
  }
  // At a client: what its process does, what its store says.
  Script& act(ClientStep what, std::uint8_t object, std::uint8_t size = 0) {
    const std::byte payload[] = {std::byte{object}, std::byte{size}};
    return step(static_cast<std::uint8_t>(what), payload);
  }
  Script& says(PlasmaFrame type, std::span<const std::byte> payload, std::uint8_t correlation = 0) {
    wire::ByteWriter whole;
    whole.u8(correlation).raw(payload.data(), payload.size());
    return step(static_cast<std::uint8_t>(type), whole.view());
  }
  void expect(const std::string& target, const std::string& name) const {
    expect_seed(target, name, out_.view());
  }

 private:
  wire::ByteWriter out_;
};

ObjectId object(std::uint8_t number) {  // as plasma_client_fuzz numbers them
  ObjectId id;
  id.data[0] = number;
  return id;
}

std::vector<std::byte> ready(std::uint8_t number, std::uint64_t offset, std::uint64_t size_bytes) {
  const ObjectReply reply{object(number), ObjectStatus::kReady, offset, size_bytes};
  return encode(std::span(&reply, 1));
}

TEST(PlasmaSeeds, EveryOperationOfAClient) {
  const CreateRequest request{numbered_object(1), numbered_worker(1), 1000, 100, kPrimary};
  const SlabRequest slab{1000};
  OpWriter first, second, third;
  first.seal({numbered_object(1), numbered_worker(1), 0, 1000, kPrimary});
  first.get(numbered_object(1));
  first.get_sealed(numbered_object(1));
  first.get_sealed(numbered_object(5));
  first.get(numbered_object(6));
  first.cancel_get(numbered_object(6));
  second.release(0, 2);
  second.remove(numbered_object(1));
  second.slab_trim(1, 1024);
  second.slab_close(1);
  third.cancel_create(0);
  third.abort(1024);
  Script script;
  script.store(StoreStep::kCreate, encode(request)).store(StoreStep::kOps, first.view());
  script.store(StoreStep::kSlabRequest, encode(slab)).store(StoreStep::kMoreOps, second.view());
  script.store(StoreStep::kOps, third.view(), 1).store(StoreStep::kWait, std::vector<std::byte>(200));
  script.store(StoreStep::kEvict, std::vector<std::byte>(9)).store(StoreStep::kFreeOwner, {});
  script.store(StoreStep::kClose, {}, 1).expect("plasma_engine_fuzz", "every_operation");
}

TEST(PlasmaSeeds, WhatAStoreSaysToAClient) {
  Script objects;
  objects.act(ClientStep::kRequest, 1).says(PlasmaFrame::kObjects, ready(1, 4096, 100));
  objects.act(ClientStep::kPin, 1).act(ClientStep::kUnpin, 1).act(ClientStep::kUnpin, 1);
  objects.act(ClientStep::kRequest, 2).act(ClientStep::kCancelRequest, 2);
  objects.says(PlasmaFrame::kObjects, ready(2, 8192, 50)).says(PlasmaFrame::kReclaim, {});
  const ObjectReply lost{object(3), ObjectStatus::kLost};
  objects.act(ClientStep::kRequest, 3).says(PlasmaFrame::kObjects, encode(std::span(&lost, 1)));
  objects.act(ClientStep::kRemove, 1).expect("plasma_client_fuzz", "objects");

  Script creates;
  creates.act(ClientStep::kCreate, 1, 9);
  creates.says(PlasmaFrame::kCreated, encode(CreateReply{CreateStatus::kOk, 65536, {}}), 1);
  creates.act(ClientStep::kEndCreate, 0).act(ClientStep::kSeal, 1).act(ClientStep::kCreate, 2, 9);
  creates.says(PlasmaFrame::kCreated, encode(CreateReply{CreateStatus::kFull, 0, "full"}), 2);
  creates.act(ClientStep::kEndCreate, 0).act(ClientStep::kCreate, 3, 9).act(ClientStep::kGiveUp, 0);
  creates.says(PlasmaFrame::kCreated, encode(CreateReply{CreateStatus::kOk, 0, {}}), 3);
  creates.expect("plasma_client_fuzz", "creates");

  Script slabs;
  slabs.act(ClientStep::kCreate, 1, 1).act(ClientStep::kGiveUp, 0);
  slabs.says(PlasmaFrame::kSlabGrant, encode(SlabGrant{1, 131072, 65536}));
  slabs.act(ClientStep::kCreate, 2, 1).act(ClientStep::kEndCreate, 0).act(ClientStep::kSeal, 2);
  slabs.act(ClientStep::kCreate, 3, 1).act(ClientStep::kEndCreate, 0).act(ClientStep::kAbort, 3);
  slabs.says(PlasmaFrame::kReclaim, {}).says(PlasmaFrame::kSlabGrant, encode(SlabGrant{}));
  slabs.expect("plasma_client_fuzz", "slabs");

  Script outside;
  outside.act(ClientStep::kRequest, 1).says(PlasmaFrame::kObjects, ready(1, 1 << 20, 1));
  outside.expect("plasma_client_fuzz", "outside");
}

// Where this object lay was no longer mapped.
TEST(PlasmaSeeds, AStoreThatHandsOverAnotherArena) {
  Script twice;
  twice.act(ClientStep::kRequest, 1).says(PlasmaFrame::kObjects, ready(1, 4096, 100));
  twice.says(PlasmaFrame::kArena, encode(ArenaInfo{1 << 20, 2, 1 << 16, 1000})).act(ClientStep::kUnpin, 1);
  twice.expect("plasma_client_fuzz", "second_arena");
}

// ---- nothing is missing ----

class Operations final : public OpVisitor {
 public:
  bool on_seal(const SealOp&) override { return saw(Op::kSeal); }
  bool on_release(std::uint64_t, std::uint32_t) override { return saw(Op::kRelease); }
  bool on_delete(const ObjectId&) override { return saw(Op::kDelete); }
  bool on_abort(std::uint64_t) override { return saw(Op::kAbort); }
  bool on_get(const ObjectId&) override { return saw(Op::kGet); }
  bool on_get_sealed(const ObjectId&) override { return saw(Op::kGetSealed); }
  bool on_cancel_get(const ObjectId&) override { return saw(Op::kCancelGet); }
  bool on_slab_trim(std::uint64_t, std::uint64_t) override { return saw(Op::kSlabTrim); }
  bool on_slab_close(std::uint64_t) override { return saw(Op::kSlabClose); }
  bool on_cancel_create(std::uint64_t) override { return saw(Op::kCancelCreate); }
  std::set<Op> seen;

 private:
  bool saw(Op op) { return seen.insert(op), true; }
};

TEST(PlasmaSeeds, EveryOperationAndStepOccurs) {
  Operations in_seeds, possible;
  std::set<StoreStep> steps;
  for (const auto& [name, seed] : seeds_of("plasma_engine_fuzz")) {
    auto rest = std::span(seed);
    while (const auto step = next_store_step(rest)) {
      steps.insert(step->kind);
      if (step->kind <= StoreStep::kMoreOps) decode_ops(step->payload, in_seeds);
    }
  }
  EXPECT_EQ(steps.size(), 8u);
  for (int op = 0; op < 256; ++op) {
    std::byte one[64] = {static_cast<std::byte>(op)};
    for (std::size_t size = 1; size <= sizeof one; ++size) decode_ops(std::span(one).first(size), possible);
  }
  EXPECT_EQ(in_seeds.seen, possible.seen);
}

TEST(PlasmaSeeds, EveryFrameForAClientOccurs) {
  std::set<int> seen;
  for (const auto& [name, seed] : seeds_of("plasma_client_fuzz")) {
    auto rest = std::span(seed);
    while (const auto step = next_client_step(rest)) seen.insert(step->what);
  }
  for (int type = 0; type < 256; ++type) {
    const bool decoded = type <= static_cast<int>(ClientStep::kLast) ||
                         decoder_of(static_cast<std::uint8_t>(type)) == DecodedBy::kClient;
    EXPECT_TRUE(!decoded || seen.contains(type)) << "no seed has a step " << type;
  }
}

}  // namespace
}  // namespace aktis::fuzz
