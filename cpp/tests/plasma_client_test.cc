#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "plasma/client.h"
#include "tests/plasma_harness.h"

namespace aktis::plasma {
namespace {

using testing::filled;
using testing::in_ms;
using testing::object_id;
using testing::ScratchDirectory;
using testing::small_store;
using testing::TestClient;
using testing::worker_id;

// Waits until the store's statistics satisfy the condition: what a client says arrives a moment later.
template <typename Condition>
bool eventually(Store& store, Condition condition) {
  const auto deadline = in_ms(5000);
  while (!condition(store.statistics().engine)) {
    if (wire::Clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class PlasmaClient : public ::testing::Test {
 protected:
  void SetUp() override { store.start(); }
  ScratchDirectory directory;
  Store store{small_store(directory)};
};

TEST_F(PlasmaClient, WhatOneSealsAnotherReads) {
  TestClient writer(store.address()), reader(store.address());
  writer.connect();
  reader.connect();
  writer.put(object_id(1), 1000, 0xab);
  const auto view = reader.get(object_id(1));
  ASSERT_TRUE(view);
  EXPECT_TRUE(filled(*view, 1000, 0xab));
}

TEST_F(PlasmaClient, GetWaitsForTheSeal) {
  TestClient writer(store.address()), reader(store.address());
  writer.connect();
  reader.connect();
  const ObjectId id = object_id(1);
  reader->request({&id, 1});
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.waiting_gets == 1; }));
  writer.put(id, 5'000'000, 0x11);  // too large for a slab
  const auto view = reader.ears().found(id);
  ASSERT_TRUE(view);
  EXPECT_TRUE(filled(*view, 5'000'000, 0x11));
}

TEST_F(PlasmaClient, SecondGetOfAHeldObjectSendsNothing) {
  TestClient client(store.address());
  client.connect();
  client.put(object_id(1), 100, 1);
  EXPECT_TRUE(client->pin_if_mapped(object_id(1)));
  client->unpin(object_id(1));
  EXPECT_TRUE(client->pin_if_mapped(object_id(1)));
  EXPECT_EQ(store.statistics().engine.gets, 0u);
}

TEST_F(PlasmaClient, SmallObjectsComeFromASlab) {
  TestClient client(store.address());
  client.connect();
  for (std::uint32_t i = 0; i < 2000; ++i) client.put(object_id(i), 100, static_cast<std::uint8_t>(i));
  EXPECT_LT((*client).statistics().round_trip_creates, 100u);
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const auto view = client->pin_if_mapped(object_id(i));
    ASSERT_TRUE(view && filled(*view, 100, static_cast<std::uint8_t>(i)));
  }
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.seals == 2000; }));
}

TEST_F(PlasmaClient, RemovedObjectIsFreedWhenTheLastReaderLetsGo) {
  TestClient writer(store.address()), reader(store.address());
  writer.connect();
  reader.connect();
  const ObjectId id = object_id(1);
  writer.put(id, 4'000'000, 3);
  const auto view = reader.get(id);
  writer->unpin(id);
  writer->remove({&id, 1});
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.objects.deleted == 1; }));
  EXPECT_TRUE(filled(*view, 4'000'000, 3));
  reader->unpin(id);
  EXPECT_TRUE(
      eventually(store, [](const auto& now) { return now.objects.deleted == 0 && now.objects.sealed == 0; }));
}

TEST_F(PlasmaClient, WaitingGetOfARemovedObjectIsLost) {
  TestClient writer(store.address()), reader(store.address());
  writer.connect();
  reader.connect();
  const ObjectId id = object_id(1);
  reader->request({&id, 1});
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.waiting_gets == 1; }));
  writer->remove({&id, 1});
  EXPECT_TRUE(reader.ears().lost(id));
}

TEST_F(PlasmaClient, AbortedObjectNeverExisted) {
  TestClient client(store.address());
  client.connect();
  ASSERT_EQ(client->create(object_id(1), 3'000'000, worker_id(1), in_ms(1000)).error, CreateError::kNone);
  client->abort(object_id(1));
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.aborts == 1; }));
  client.put(object_id(1), 3'000'000, 1);
}

TEST_F(PlasmaClient, SameIdTwiceIsRefused) {
  TestClient client(store.address()), other(store.address());
  client.connect();
  other.connect();
  client.put(object_id(1), 100, 1);
  EXPECT_EQ(client->create(object_id(1), 100, worker_id(1), in_ms(100)).error, CreateError::kExists);
  client->flush();
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.seals == 1; }));
  EXPECT_EQ(other->create(object_id(1), 5'000'000, worker_id(1), in_ms(100)).error, CreateError::kExists);
}

TEST_F(PlasmaClient, LargerThanTheStoreIsRefusedAtOnce) {
  TestClient client(store.address());
  client.connect();
  const auto result = client->create(object_id(1), 1u << 30, worker_id(1), in_ms(60'000));
  EXPECT_EQ(result.error, CreateError::kTooLarge);
}

TEST_F(PlasmaClient, FullStoreSaysWhoHoldsWhat) {
  TestClient client(store.address());
  client.connect();
  for (std::uint32_t i = 0; i < 3; ++i) client.put(object_id(i), 5'000'000, 1);
  const auto result = client->create(object_id(9), 5'000'000, worker_id(1), in_ms(50));
  ASSERT_EQ(result.error, CreateError::kFull);
  EXPECT_NE(result.message.find(worker_id(1).hex()), std::string::npos) << result.message;
  EXPECT_NE(result.message.find("Process " + std::to_string(::getpid())), std::string::npos)
      << result.message;
}

TEST_F(PlasmaClient, CreationWaitsForRoom) {
  TestClient client(store.address());
  client.connect();
  for (std::uint32_t i = 0; i < 3; ++i) client.put(object_id(i), 5'000'000, 1);
  std::thread waiting([&] { client.put(object_id(9), 5'000'000, 2); });
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.waiting_creates == 1; }));
  const ObjectId id = object_id(0);
  client->unpin(id);
  client->remove({&id, 1});
  waiting.join();
  EXPECT_TRUE(filled(*client->pin_if_mapped(object_id(9)), 5'000'000, 2));
}

TEST_F(PlasmaClient, CreationThatIsGivenUpMakesWayForOthers) {
  TestClient client(store.address()), other(store.address());
  client.connect();
  other.connect();
  for (std::uint32_t i = 0; i < 3; ++i) client.put(object_id(i), 5'000'000, 1);
  {
    Client::Creation creation;
    client->begin_create(creation, object_id(8), 5'000'000, worker_id(1), in_ms(60'000));
    ASSERT_TRUE(eventually(store, [](const auto& now) { return now.waiting_creates == 1; }));
  }
  const auto small = other->create(object_id(9), 1'100'000, worker_id(1), in_ms(5000));
  EXPECT_EQ(small.error, CreateError::kNone) << small.message;
}

TEST_F(PlasmaClient, RoomGivenToACreationThatNobodyTakesGoesBack) {
  TestClient client(store.address());
  client.connect();
  {
    Client::Creation creation;
    client->begin_create(creation, object_id(1), 5'000'000, worker_id(1), in_ms(5000));
    ASSERT_TRUE(eventually(store, [](const auto& now) { return now.objects.created == 1; }));
  }
  EXPECT_TRUE(eventually(store, [](const auto& now) { return now.aborts == 1 && now.objects.created == 0; }));
  client.put(object_id(1), 5'000'000, 1);
}

TEST_F(PlasmaClient, UnreferencedCopiesAreEvictedOldestFirst) {
  TestClient client(store.address());
  client.connect();
  for (std::uint32_t i = 0; i < 3; ++i) {
    client.put(object_id(i), 5'000'000, 1, /*primary=*/false);
    client->unpin(object_id(i));
  }
  client.put(object_id(9), 5'000'000, 2);  // the store asks for the idle pins first
  EXPECT_GE(store.statistics().engine.evictions, 1u);
  EXPECT_TRUE(client.get(object_id(2)));
  EXPECT_FALSE(client.get(object_id(0), 20));
}

// The client is forked before this process has threads: sanitizers demand it.
TEST(PlasmaClientCrash, ClientThatIsKilledLeavesNothing) {
  const ScratchDirectory directory;
  const ObjectId wanted = object_id(3);
  int go[2], ready[2];
  ASSERT_EQ(::pipe(go), 0);
  ASSERT_EQ(::pipe(ready), 0);
  char byte = 'x';
  const pid_t child = ::fork();
  if (child == 0) {
    if (::read(go[0], &byte, 1) != 1) ::_exit(1);
    TestClient client(directory.socket());
    client.connect();
    client.put(object_id(1), 1000, 1);                              // sealed: stays
    client->create(object_id(2), 1000, worker_id(1), in_ms(1000));  // in its slab
    client->create(wanted, 4'000'000, worker_id(1), in_ms(1000));   // of its own
    client->flush();
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    ::pause();
  }
  Store store(small_store(directory));
  store.start();
  ASSERT_EQ(::write(go[1], "x", 1), 1);
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  for (int fd : {go[0], go[1], ready[0], ready[1]}) ::close(fd);
  TestClient reader(store.address());
  reader.connect();
  reader->request({&wanted, 1});
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.waiting_gets == 1; }));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(reader.ears().lost(wanted));
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.clients == 1; }));
  const auto now = store.statistics().engine;
  EXPECT_EQ(now.objects.created, 0u);
  EXPECT_EQ(now.objects.sealed, 1u);
  EXPECT_EQ(now.objects.pinned, 0u);
  EXPECT_EQ(now.slab_bytes, 0u);
  EXPECT_EQ(now.used_bytes, footprint(1000));
  const auto view = reader.get(object_id(1));
  EXPECT_TRUE(view && filled(*view, 1000, 1));
}

TEST_F(PlasmaClient, SealedMemoryCannotBeWritten) {
  TestClient client(store.address());
  client.connect();
  const ObjectView view = client.put(object_id(1), 100, 1);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    *const_cast<volatile std::byte*>(view.data.data()) = std::byte{2};
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
  EXPECT_TRUE(filled(view, 100, 1));
}

TEST_F(PlasmaClient, ViewsOutliveTheStoreAndTheClient) {
  auto client = std::make_unique<TestClient>(store.address());
  client->connect();
  const ObjectView view = client->put(object_id(1), 100'000, 5);
  const auto mapping = (**client).mapping();
  store.stop();
  EXPECT_TRUE(client->ears().disconnected());
  EXPECT_EQ((**client).create(object_id(2), 10, worker_id(1), in_ms(100)).error, CreateError::kDisconnected);
  client.reset();
  EXPECT_TRUE(filled(view, 100'000, 5));
}

// How many mappings of the store's arena this process has.
std::size_t mapped_arenas() {
  std::ifstream maps("/proc/self/maps");
  std::size_t found = 0;
  for (std::string line; std::getline(maps, line);) found += line.find("memfd:aktis-plasma") != line.npos;
  return found;
}

TEST_F(PlasmaClient, CloseUnmapsTheArenaUnlessAViewIsHeld) {
  const std::size_t of_the_store = mapped_arenas();
  TestClient client(store.address());
  client.connect();
  const auto view = client.put(object_id(1), 1000, 0x21);
  const auto held = client->pin(object_id(1));
  EXPECT_GT(mapped_arenas(), of_the_store);
  client->close();
  EXPECT_TRUE(filled(view, 1000, 0x21));
  const_cast<std::shared_ptr<const void>&>(held).reset();
  EXPECT_EQ(mapped_arenas(), of_the_store);
  client->close();
}

TEST_F(PlasmaClient, CallsAfterCloseFailOrDoNothing) {
  TestClient client(store.address());
  client.connect();
  client.put(object_id(1), 1000, 0x21);
  const auto begun = client->create(object_id(2), 1000, worker_id(1), in_ms(5000));
  ASSERT_EQ(begun.error, CreateError::kNone);
  client->close();
  EXPECT_EQ(client->create(object_id(3), 1000, worker_id(1), in_ms(5000)).error, CreateError::kDisconnected);
  EXPECT_TRUE(client->seal(object_id(2)).data.empty());
  EXPECT_EQ(client->pin(object_id(1)), nullptr);
  EXPECT_FALSE(client->pin_if_mapped(object_id(1)));
  EXPECT_EQ(client->mapping(), nullptr);
  EXPECT_FALSE(client->sync(in_ms(5000)));
  const ObjectId ids[] = {object_id(1), object_id(4)};
  client->request(ids);
  client->unpin(object_id(1));
  client->remove(ids);
  client->flush();
  EXPECT_TRUE(eventually(store, [](const auto& now) { return now.clients == 0 && now.violations == 0; }));
}

TEST_F(PlasmaClient, CreationThatWaitsIsEndedByClose) {
  TestClient client(store.address());
  client.connect();
  std::uint64_t number = 1;
  while (client->create(object_id(number), 1u << 20, worker_id(1), in_ms(0)).error == CreateError::kNone) {
    ++number;
  }
  Client::Creation creation;
  client->begin_create(creation, object_id(number), 1u << 20, worker_id(1), in_ms(60'000));
  EXPECT_FALSE(creation.waiter.completed());
  client->close();
  EXPECT_TRUE(creation.waiter.completed());
  EXPECT_EQ(client->end_create(creation).error, CreateError::kDisconnected);
}

TEST_F(PlasmaClient, WrongTokenIsRefusedWithTheReason) {
  TestClient client(store.address(), "guess");
  try {
    client.connect();
    FAIL() << "accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("token"), std::string::npos) << error.what();
  }
}

TEST_F(PlasmaClient, NothingListens) {
  TestClient client("unix:" + directory.path() + "/nobody.sock");
  EXPECT_THROW(client.connect(), std::runtime_error);
}

TEST_F(PlasmaClient, ObjectsOfADeadOwnerGo) {
  TestClient client(store.address());
  client.connect();
  client.put(object_id(1), 100, 1, true, worker_id(1));
  client.put(object_id(2), 100, 1, true, worker_id(2));
  client->unpin(object_id(1));
  client->unpin(object_id(2));
  ASSERT_TRUE(eventually(store, [](const auto& now) { return now.seals == 2; }));
  EXPECT_EQ(store.free_owner(worker_id(1)), 1u);
  EXPECT_TRUE(eventually(store, [](const auto& now) { return now.objects.sealed == 1; }));
}

TEST_F(PlasmaClient, LargeCopiesAreWhole) {
  TestClient client(store.address());
  client.connect();
  std::vector<std::byte> source(9'000'001);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 2654435761u >> 13);
  auto created = client->create(object_id(1), source.size(), worker_id(1), in_ms(1000));
  ASSERT_EQ(created.error, CreateError::kNone);
  client->copy(created.writable, source);
  const ObjectView view = client->seal(object_id(1));
  EXPECT_TRUE(std::equal(view.data.begin(), view.data.end(), source.begin()));
}

// Many threads of several clients at once; run under ThreadSanitizer.
TEST_F(PlasmaClient, ThreadsShareAClient) {
  TestClient first(store.address()), second(store.address());
  first.connect();
  second.connect();
  constexpr std::uint32_t kPerThread = 300;
  std::vector<std::thread> threads;
  for (std::uint32_t number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      TestClient& writer = number % 2 == 0 ? first : second;
      TestClient& reader = number % 2 == 0 ? second : first;
      for (std::uint32_t i = 0; i < kPerThread; ++i) {
        const ObjectId id = object_id(number * 10'000 + i);
        const std::size_t size = i % 50 == 0 ? 600'000 : 1 + i;
        writer.put(id, size, static_cast<std::uint8_t>(i));
        const auto view = reader.get(id);
        if (!view || !filled(*view, size, static_cast<std::uint8_t>(i))) {
          ADD_FAILURE() << "object " << i << " of thread " << number;
          return;
        }
        reader->unpin(id);
        writer->unpin(id);
        writer->remove({&id, 1});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(
      eventually(store, [](const auto& now) { return now.objects.sealed == 0 && now.objects.deleted == 0; }));
}

}  // namespace
}  // namespace aktis::plasma
