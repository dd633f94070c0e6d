// Errors in the simulated cluster: values that several results share.
#pragma once

#include <vector>

#include "references_world.h"

namespace aktis::testing {

// p's own object `outer` gets the value of `source`: a task failed with the error of one that it depends on.
inline void take_over(World& world, int p, const ObjectId& outer, const ObjectId& source) {
  if (outer == source || world.oracle.object(outer).freed) return;
  const bool known = world.table(p).is_owned(source);
  const std::vector<ObjectId> contents =
      known ? world.oracle.object(source).counted : std::vector<ObjectId>{source};
  TrueObject& object = world.oracle.object(outer);
  for (const ObjectId& inner : contents) {
    if (inner == outer) continue;
    object.contents.push_back(inner);
    object.counted.push_back(inner);
  }
  world.table(p).take_contents(outer, source);
  world.drop(p, kState, {});  // carries out what the table asks for, and checks
}

}  // namespace aktis::testing
