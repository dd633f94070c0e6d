// Seeds for a member of a collective group: every call, with another member that does what it should.
#include <gtest/gtest.h>

#include <cstring>

#include "collective/group.h"
#include "tests/fuzz_corpus.h"

namespace aktis::fuzz {
namespace {

using namespace aktis::collective;

template <typename T>
void append(Seed& seed, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  seed.insert(seed.end(), bytes.begin(), bytes.end());
}

// The order of collective_group_fuzz.cc.
Seed seed_of(std::uint8_t which, Description said, std::uint8_t published = 99) {
  Seed seed;
  const std::uint8_t head[] = {which,
                               static_cast<std::uint8_t>(said.type),
                               static_cast<std::uint8_t>(said.operation),
                               255,
                               255,
                               published,
                               4};
  for (const std::uint8_t byte : head) append(seed, byte);
  Description clean;
  std::memset(static_cast<void*>(&clean), 0, sizeof clean);  // also what lies between its fields
  clean.call = said.call;
  clean.type = said.type;
  clean.operation = said.operation;
  clean.root = said.root;
  clean.count = said.count;
  append(seed, clean);
  const std::uint64_t message_bytes = said.count * size_of(said.type);
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    append(seed, message_bytes);
    append(seed, static_cast<std::uint32_t>(kSlotBytes));
    append(seed, static_cast<std::uint32_t>(said.type));
  }
  return seed;
}

TEST(CollectiveSeeds, EveryCall) {
  constexpr std::uint64_t kCount = 255 * 255;
  const std::pair<const char*, Description> calls[] = {
      {"barrier", {}},
      {"all_reduce", {Call::kAllReduce, DataType::kFloat32, Operation::kSum, 0, kCount}},
      {"reduce", {Call::kReduce, DataType::kInt64, Operation::kMax, 0, kCount}},
      {"broadcast", {Call::kBroadcast, DataType::kFloat64, Operation::kSum, 1, kCount}},
      {"all_gather", {Call::kAllGather, DataType::kComplex128, Operation::kSum, 0, kCount}},
      {"reduce_scatter", {Call::kReduceScatter, DataType::kBfloat16, Operation::kProduct, 0, kCount}},
      {"send", {Call::kBarrier, DataType::kUint8, Operation::kSum, 0, kCount}},
      {"receive", {Call::kBarrier, DataType::kUint8, Operation::kSum, 0, kCount}},
  };
  for (std::uint8_t which = 0; which < std::size(calls); ++which) {
    const auto& [name, said] = calls[which];
    expect_seed("collective_group_fuzz", name, seed_of(which, said));
  }
  expect_seed("collective_group_fuzz", "other_call", seed_of(0, calls[1].second));
  expect_seed("collective_group_fuzz", "late", seed_of(1, calls[1].second, 1));
  expect_seed("collective_group_fuzz", "other_message", seed_of(7, {Call::kBarrier, DataType::kInt16}));
  expect_seed("collective_group_fuzz", "other_memory", Seed(17, std::byte{0x80}));
}

// What another version of this system might say: found by the fuzzer.
TEST(CollectiveSeeds, ACallThatDoesNotExist) {
  Seed seed = seed_of(0, {});
  std::fill(seed.begin() + 7, seed.begin() + 10, std::byte{0xff});  // call, type, operation
  expect_seed("collective_group_fuzz", "unknown_call", seed);
}

}  // namespace
}  // namespace aktis::fuzz
