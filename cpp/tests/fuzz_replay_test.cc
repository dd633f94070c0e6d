// Every fuzz target runs through its committed seeds: whatever a fuzzer found once stays mended.
#include <gtest/gtest.h>

#include "tests/fuzz_corpus.h"

#define FUZZ_TARGET(name) extern "C" int name(const std::uint8_t* data, std::size_t size);
#include "fuzz_targets.inc"
#undef FUZZ_TARGET

namespace aktis::fuzz {
namespace {

using Run = int (*)(const std::uint8_t*, std::size_t);

const std::map<std::string, Run> kTargets = {
#define FUZZ_TARGET(name) {#name, name},
#include "fuzz_targets.inc"
#undef FUZZ_TARGET
};

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& [name, run] : kTargets) names.push_back(name);
  return names;
}

class Replay : public ::testing::TestWithParam<std::string> {};

TEST_P(Replay, EverySeed) {
  const auto run = kTargets.at(GetParam());
  const auto seeds = seeds_of(GetParam());
  EXPECT_FALSE(seeds.empty());
  for (const auto& [name, seed] : seeds) {
    SCOPED_TRACE(name);
    run(reinterpret_cast<const std::uint8_t*>(seed.data()), seed.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Replay, ::testing::ValuesIn(names()),
                         [](const auto& info) { return info.param; });

TEST(Corpus, EveryDirectoryIsATargets) {
  for (const auto& entry : std::filesystem::directory_iterator(AKTIS_FUZZ_CORPUS)) {
    EXPECT_TRUE(kTargets.contains(entry.path().filename().string())) << entry.path();
  }
}

}  // namespace
}  // namespace aktis::fuzz
