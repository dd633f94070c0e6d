// The committed seeds of the fuzz targets, cpp/fuzz/corpus/TARGET/NAME.
//
// Those that a test makes with our own encoders are compared with what it makes: a field that is new, or one
// that has moved, is missed until the seed is written again. AKTIS_WRITE_SEEDS=1 writes instead of comparing.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace aktis::fuzz {

using Seed = std::vector<std::byte>;

inline std::filesystem::path corpus_of(const std::string& target) {
  return std::filesystem::path(AKTIS_FUZZ_CORPUS) / target;
}

inline Seed read_seed(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  Seed seed;
  std::transform(std::istreambuf_iterator<char>(file), {}, std::back_inserter(seed),
                 [](char byte) { return static_cast<std::byte>(byte); });
  return seed;
}

// By name.
inline std::map<std::string, Seed> seeds_of(const std::string& target) {
  std::map<std::string, Seed> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_of(target))) {
    seeds.emplace(entry.path().filename().string(), read_seed(entry.path()));
  }
  return seeds;
}

inline void expect_seed(const std::string& target, const std::string& name, std::span<const std::byte> made) {
  const auto path = corpus_of(target) / name;
  if (std::getenv("AKTIS_WRITE_SEEDS") != nullptr) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(made.data()), static_cast<std::streamsize>(made.size()));
    return;
  }
  EXPECT_TRUE(std::filesystem::exists(path) && std::ranges::equal(read_seed(path), made))
      << path << " is not what the encoders write: run this test once with AKTIS_WRITE_SEEDS=1 and commit it";
}

}  // namespace aktis::fuzz
