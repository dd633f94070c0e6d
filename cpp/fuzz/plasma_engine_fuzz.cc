// Three clients say anything at all to a store; its books must balance after every message.
//
// Input: a series of messages. First byte: client (2 bits), kind (3 bits); second: length of the payload;
// then the payload itself. Ids and places in the payloads come from the fuzzer.
#include <cstdio>
#include <cstdlib>

#include "tests/plasma_engine_harness.h"

using aktis::plasma::PlasmaFrame;
using aktis::plasma::SessionId;
using aktis::plasma::testing::EngineHarness;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  EngineHarness store(256 << 10);
  SessionId sessions[3];
  for (SessionId& session : sessions) session = store.open();
  while (size >= 2) {
    SessionId& session = sessions[(data[0] & 3) % 3];
    const unsigned kind = (data[0] >> 2) & 7;
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    const std::span payload(reinterpret_cast<const std::byte*>(data + 2), length);
    data += 2 + length;
    size -= 2 + length;
    constexpr PlasmaFrame kTypes[] = {PlasmaFrame::kOps, PlasmaFrame::kOps, PlasmaFrame::kCreate,
                                      PlasmaFrame::kSlabRequest};
    bool close = kind == 4;
    if (kind < 4) close = store.send(session, kTypes[kind], payload).has_value();
    if (kind == 5) store.engine.free_owner(aktis::plasma::testing::numbered_worker(1), store.now);
    if (kind == 6) store.engine.evict(1000 * length, store.now);
    if (kind == 7) store.advance(static_cast<int>(length));
    if (close) {
      store.engine.close_session(session, store.now);
      session = store.open();
    }
    if (const char* problem = store.engine.validate(); *problem != 0) {
      std::fprintf(stderr, "the store's books do not balance: %s\n", problem);
      std::abort();
    }
  }
  return 0;
}
