#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "plasma/object_table.h"

namespace aktis::plasma {
namespace {

constexpr std::uint64_t kArenaBytes = 1u << 20;

Slot sealed(std::uint32_t number) {
  Slot slot;
  slot.state = ObjectState::kSealed;
  slot.offset = number * 4096;
  slot.size_bytes = 100 + number;
  std::memcpy(slot.id.data, &number, sizeof(number));
  slot.id.data[19] = 1;
  return slot;
}

wire::UniqueFd duplicate(int fd) { return wire::UniqueFd(::dup(fd)); }

// Changes bytes of a table behind its back, as a killed store or a broken memory would.
void scribble(int fd, off_t position, std::byte value) { ASSERT_EQ(::pwrite(fd, &value, 1, position), 1); }

TEST(ObjectTable, KeepsWhatWasInserted) {
  ObjectTable table(kArenaBytes);
  const auto first = table.insert(sealed(1));
  const auto second = table.insert(sealed(2));
  EXPECT_NE(first, second);
  EXPECT_EQ(table.at(second).size_bytes, 102u);
  EXPECT_EQ(table.used_slots(), 2u);
}

TEST(ObjectTable, ReusesTheLowestFreeSlot) {
  ObjectTable table(kArenaBytes);
  for (std::uint32_t i = 0; i < 5; ++i) table.insert(sealed(i));
  table.erase(3);
  table.erase(1);
  EXPECT_EQ(table.insert(sealed(7)), 1u);
  EXPECT_EQ(table.insert(sealed(8)), 3u);
  EXPECT_EQ(table.insert(sealed(9)), 5u);
}

TEST(ObjectTable, AnotherProcessValidatesAndEnumerates) {
  ObjectTable table(kArenaBytes);
  for (std::uint32_t i = 0; i < 10; ++i) table.insert(sealed(i));
  table.erase(4);
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 1;
    try {
      ObjectTable reader(duplicate(table.fd()), false);
      std::uint64_t bytes = 0, count = 0;
      const auto corrupt = reader.recover([&](std::uint64_t, const Slot& slot) {
        bytes += slot.size_bytes;
        ++count;
      });
      result = corrupt == 0 && count == 9 && bytes == 9 * 100 + 45 - 4 && reader.header().epoch == 1 ? 0 : 2;
    } catch (...) {
    }
    ::_exit(result);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(ObjectTable, StoreThatComesBackGoesOn) {
  auto table = std::make_unique<ObjectTable>(kArenaBytes);
  for (std::uint32_t i = 0; i < 5; ++i) table->insert(sealed(i));
  table->erase(2);
  auto fd = duplicate(table->fd());
  table.reset();
  ObjectTable next(std::move(fd), true);
  next.next_epoch();
  EXPECT_EQ(next.recover([](std::uint64_t, const Slot&) {}), 0u);
  EXPECT_EQ(next.header().epoch, 2u);
  EXPECT_EQ(next.used_slots(), 4u);
  EXPECT_EQ(next.insert(sealed(9)), 2u);
  EXPECT_NO_THROW(ObjectTable(duplicate(next.fd()), false));  // the header's checksum holds
}

TEST(ObjectTable, TornSlotIsRecognisedAndCleared) {
  ObjectTable table(kArenaBytes);
  for (std::uint32_t i = 0; i < 3; ++i) table.insert(sealed(i));
  for (std::size_t field = 0; field < sizeof(Slot); field += 7) {
    scribble(table.fd(), static_cast<off_t>(4096 + sizeof(Slot) + field), std::byte{0xee});
  }
  std::map<std::uint64_t, Slot> found;
  EXPECT_EQ(table.recover([&](std::uint64_t index, const Slot& slot) { found[index] = slot; }), 1u);
  EXPECT_EQ(found.size(), 2u);
  EXPECT_FALSE(found.contains(1));
  EXPECT_EQ(table.at(1).state, ObjectState::kFree);
  EXPECT_EQ(table.recover([](std::uint64_t, const Slot&) {}), 0u);
}

TEST(ObjectTable, EveryByteOfASlotCounts) {
  ObjectTable table(kArenaBytes);
  table.insert(sealed(1));
  for (std::size_t position = 0; position < sizeof(Slot); ++position) {
    const auto at = static_cast<off_t>(4096 + position);
    std::byte before{};
    ASSERT_EQ(::pread(table.fd(), &before, 1, at), 1);
    scribble(table.fd(), at, before ^ std::byte{0x10});
    ObjectTable reader(duplicate(table.fd()), false);
    EXPECT_EQ(reader.recover([](std::uint64_t, const Slot&) {}), 1u) << "byte " << position;
    scribble(table.fd(), at, before);
  }
}

TEST(ObjectTable, SlotThatPointsOutsideIsCorrupt) {
  ObjectTable table(kArenaBytes);
  Slot beyond = sealed(1);
  beyond.offset = kArenaBytes - 64;
  Slot misaligned = sealed(2);
  misaligned.offset = 8;
  Slot huge = sealed(3);
  huge.size_bytes = ~std::uint64_t{0};
  for (const Slot& slot : {beyond, misaligned, huge}) table.insert(slot);
  EXPECT_EQ(table.recover([](std::uint64_t, const Slot&) { ADD_FAILURE(); }), 3u);
}

TEST(ObjectTable, ForeignFilesAreRefusedWithTheReason) {
  const auto refusal = [](wire::UniqueFd fd) -> std::string {
    try {
      ObjectTable table(std::move(fd), true);
      return "";
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  };
  wire::UniqueFd empty(::memfd_create("empty", MFD_CLOEXEC));
  EXPECT_NE(refusal(duplicate(empty.get())).find("shorter"), std::string::npos);
  ASSERT_EQ(::ftruncate(empty.get(), 8192), 0);
  EXPECT_NE(refusal(std::move(empty)).find("magic"), std::string::npos);
  ObjectTable table(kArenaBytes);
  scribble(table.fd(), offsetof(TableHeader, slot_count), std::byte{0x55});
  EXPECT_NE(refusal(duplicate(table.fd())).find("checksum"), std::string::npos);
  scribble(table.fd(), offsetof(TableHeader, version), std::byte{99});
  EXPECT_NE(refusal(duplicate(table.fd())).find("version 99"), std::string::npos);
  scribble(table.fd(), offsetof(TableHeader, magic), std::byte{0});
  EXPECT_NE(refusal(duplicate(table.fd())).find("magic"), std::string::npos);
}

TEST(ObjectTable, WhatIsRefusedIsNotKeptMapped) {
  const auto mappings = [] {
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    for (std::string line; std::getline(maps, line);)
      count += line.find("aktis-plasma-table") != std::string::npos ? 1 : 0;
    return count;
  };
  ObjectTable table(kArenaBytes);
  scribble(table.fd(), offsetof(TableHeader, magic), std::byte{1});
  const int before = mappings();
  EXPECT_EQ(before, 1);
  EXPECT_THROW(ObjectTable(duplicate(table.fd()), true), std::runtime_error);
  EXPECT_EQ(mappings(), before);
}

TEST(ObjectTable, UnusedSlotsTakeNoMemory) {
  ObjectTable table(std::uint64_t{1} << 36);
  table.insert(sealed(1));
  struct stat status{};
  ASSERT_EQ(::fstat(table.fd(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, 64 << 10);
}

TEST(ObjectState, OnlyTheTableOfTransitionsCounts) {
  EXPECT_TRUE(may_follow(ObjectState::kCreated, ObjectState::kSealed));
  EXPECT_TRUE(may_follow(ObjectState::kSealed, ObjectState::kSpilling));
  EXPECT_TRUE(may_follow(ObjectState::kRestoring, ObjectState::kSealed));
  EXPECT_FALSE(may_follow(ObjectState::kSealed, ObjectState::kCreated));
  EXPECT_FALSE(may_follow(ObjectState::kSealed, ObjectState::kAborted));
  EXPECT_FALSE(may_follow(ObjectState::kDeleted, ObjectState::kSealed));
  EXPECT_FALSE(may_follow(ObjectState::kCreated, ObjectState::kDeleted));
}

}  // namespace
}  // namespace aktis::plasma
