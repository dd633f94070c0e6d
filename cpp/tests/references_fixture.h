// Single reference tables for tests of their rules: events in, actions out as text.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/references.h"

namespace aktis::testing {

using Kind = ReferenceAction::Kind;
using references::State;

inline WorkerId worker(std::uint8_t number) {
  WorkerId id;
  id.data[0] = number;
  return id;
}

inline TaskId task(std::uint8_t number) {
  TaskId id;
  id.data[8] = number;
  return id;
}

inline ObjectId object(std::uint8_t number) { return ObjectId::of(task(number), 0); }

inline const WorkerId kSelf = worker(1);
inline const WorkerId kOwner = worker(2);
inline const WorkerId kCaller = worker(3);
inline const WorkerId kOther = worker(4);

inline std::string number(const ObjectId& id) { return std::to_string(id.data[8]); }

// Actions as text, e.g. "add 5 to 2"; the generation of the last message is kept for the answer.
class ReferencesFixture : public ::testing::Test {
 protected:
  std::vector<std::string> actions() {
    table.validate();
    std::vector<std::string> texts;
    for (const ReferenceAction& action : table.take_actions()) {
      if (action.generation != 0) generation = action.generation;
      texts.push_back(describe(action));
    }
    return texts;
  }

  static std::string describe(const ReferenceAction& action) {
    const std::string id = number(action.object);
    const std::string peer = " to " + std::to_string(action.peer.data[0]);
    switch (action.kind) {
      case Kind::kSendBorrowAdd:
        return "add " + id + peer;
      case Kind::kSendBorrowAck:
        return "ack " + id + peer;
      case Kind::kSendBorrowNack:
        return "nack " + id + peer;
      case Kind::kSendBorrowRemove:
        return "remove " + id + peer;
      case Kind::kSendReturnRelease:
        return "return release" + peer;
      case Kind::kFreeObject:
        return "free " + id + (action.lineage_kept ? ", keep lineage" : "");
      case Kind::kLineageDroppable:
        return "drop lineage " + id;
      case Kind::kReleaseBorrowed:
        return "release " + id;
      case Kind::kObjectOwnerDied:
        return "owner died " + id;
      case Kind::kObjectLost:
        return "lost " + id;
      case Kind::kTaskEndable:
        return "endable " + std::to_string(action.task.data[8]);
    }
    return "unknown";
  }

  // A reference that this process holds and has registered with kOwner.
  void borrow_registered(const ObjectId& id) {
    table.add_borrowed(id, kOwner, Cover::none());
    actions();
    table.on_borrow_ack(kOwner, id, generation);
    ASSERT_EQ(table.counts(id).state, State::kRegistered);
  }

  using Texts = std::vector<std::string>;
  ReferenceTable table{kSelf};
  std::uint64_t generation = 0;
};

}  // namespace aktis::testing
