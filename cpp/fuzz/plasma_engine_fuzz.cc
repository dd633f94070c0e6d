// Three clients say anything at all to a store; its books must balance after every message.
//
// Input: steps, see fuzz/plasma_scripts.h. Ids and places in the payloads come from the fuzzer.
#include <cstdio>
#include <cstdlib>

#include "fuzz/plasma_scripts.h"
#include "tests/plasma_engine_harness.h"

namespace {

using namespace aktis::fuzz;
using aktis::plasma::PlasmaFrame;
using aktis::plasma::SessionId;
using aktis::plasma::testing::EngineHarness;

// False when the store would hang up on the client.
bool take(EngineHarness& store, SessionId session, const ToStore& step) {
  switch (step.kind) {
    case StoreStep::kOps:
    case StoreStep::kMoreOps:
      return !store.send(session, PlasmaFrame::kOps, step.payload);
    case StoreStep::kCreate:
      return !store.send(session, PlasmaFrame::kCreate, step.payload);
    case StoreStep::kSlabRequest:
      return !store.send(session, PlasmaFrame::kSlabRequest, step.payload);
    case StoreStep::kClose:
      return false;
    case StoreStep::kFreeOwner:
      store.engine.free_owner(aktis::plasma::testing::numbered_worker(1), store.now);
      return true;
    case StoreStep::kEvict:
      store.engine.evict(1000 * step.payload.size(), store.now);
      return true;
    case StoreStep::kWait:
      store.advance(static_cast<int>(step.payload.size()));
      return true;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  EngineHarness store(256 << 10);
  SessionId sessions[3];
  for (SessionId& session : sessions) session = store.open();
  std::span input = std::as_bytes(std::span(data, size));
  while (const auto step = next_store_step(input)) {
    SessionId& session = sessions[step->client];
    if (!take(store, session, *step)) {
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
