// Ground truth for simulations of the reference protocol: which objects somebody may still reach, judged from
// the programs' own variables and the messages under way, never from the tables under test.
//
// A reference is *secure* at a process when no single death so far can excuse its loss: the process owns the
// object, or the owner has processed its registration, or at least one path by which the reference came is
// unbroken. A path is broken when a process that was vouching for it dies (or had a broken path itself).
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "wire/ids.h"

namespace aktis::testing {

// A process and an object that it holds.
using Hold = std::pair<int, ObjectId>;

struct TrueObject {
  int owner = -1;
  bool freed = false;
  std::vector<ObjectId> contents;  // of the present value
  std::vector<ObjectId> counted;   // of all its values; it keeps these (R9)
};

class Oracle {
 public:
  explicit Oracle(int processes) : alive_(processes, true) {}

  bool alive(int process) const { return alive_[process]; }
  int owner(const ObjectId& id) const { return objects_.at(id).owner; }
  bool readable(const ObjectId& id) const { return !objects_.at(id).freed && alive(owner(id)); }
  TrueObject& object(const ObjectId& id) { return objects_.at(id); }
  const std::map<ObjectId, TrueObject>& objects() const { return objects_; }

  void create(const ObjectId& id, int owner) { objects_[id].owner = owner; }

  // `process` received a reference; each of `guards` must stay for it to be safe. Without any, nobody
  // vouches.
  void arrive(int process, const ObjectId& id, const std::vector<Hold>& guards) {
    if (owner(id) == process) return;
    Record& record = records_[{process, id}];
    if (record.registered) return;
    bool broken = guards.empty();
    for (const Hold& guard : guards) broken |= !alive(guard.first) || insecure(guard);
    record.paths.push_back({guards, broken});
  }

  void adding(int process, const ObjectId& id, std::uint64_t generation) {
    records_[{process, id}].generation = generation;
  }

  void registered(int process, const ObjectId& id, std::uint64_t generation) {
    const auto position = records_.find({process, id});
    if (position == records_.end() || position->second.generation != generation) return;
    position->second.registered = true;
    position->second.paths.clear();
  }

  // Whether it would be a broken promise to refuse this registration.
  bool promised(int process, const ObjectId& id, std::uint64_t generation) const {
    const auto position = records_.find({process, id});
    return position != records_.end() && position->second.generation == generation && secure({process, id});
  }

  void released(int process, const ObjectId& id) { records_.erase({process, id}); }

  void crash(int process) {
    alive_[process] = false;
    std::erase_if(records_, [&](const auto& item) { return item.first.first == process; });
    for (bool changed = true; changed;) {
      changed = false;
      for (auto& [hold, record] : records_) changed |= break_paths(record);
    }
  }

  bool secure(const Hold& hold) const { return alive(hold.first) && !insecure(hold); }

  // Whether no death but the owner's could cost the holder this reference: it is registered, or it came in an
  // object of the same owner that is held as safely.
  bool self_reliant(const Hold& hold) const {
    if (owner(hold.second) == hold.first || !alive(owner(hold.second))) return true;
    const auto position = records_.find(hold);
    if (position == records_.end() || position->second.registered) return true;
    for (const Path& path : position->second.paths) {
      bool safe = !path.guards.empty();
      for (const Hold& guard : path.guards) {
        const bool by_owner = guard.first == owner(hold.second);
        const bool by_outer = guard.first == hold.first && guard.second != hold.second;
        safe = safe && (by_owner || (by_outer && self_reliant(guard)));
      }
      if (safe) return true;
    }
    return false;
  }

  // Every hold that counts, given the direct ones: those, and what can be read through them.
  std::set<Hold> reachable(const std::vector<Hold>& direct) const {
    std::set<Hold> reached;
    std::vector<Hold> work;
    const auto reach = [&](const Hold& hold) {
      if (secure(hold) && reached.insert(hold).second) work.push_back(hold);
    };
    for (const Hold& hold : direct) reach(hold);
    while (!work.empty()) {
      const ObjectId id = work.back().second;
      work.pop_back();
      if (!readable(id)) continue;
      for (const ObjectId& inner : objects_.at(id).contents) reach({owner(id), inner});
    }
    return reached;
  }

  // An object that contains itself through others, all of them kept; nil when there is none.
  ObjectId on_cycle() const {
    for (const auto& [id, object] : objects_) {
      std::set<ObjectId> seen;
      std::vector<ObjectId> work = {id};
      while (!work.empty()) {
        const ObjectId outer = work.back();
        work.pop_back();
        if (!readable(outer)) continue;
        for (const ObjectId& inner : objects_.at(outer).counted) {
          if (inner == id && readable(id)) return id;
          if (seen.insert(inner).second) work.push_back(inner);
        }
      }
    }
    return {};
  }

 private:
  struct Path {
    std::vector<Hold> guards;
    bool broken = false;
  };
  struct Record {
    std::uint64_t generation = 0;
    bool registered = false;
    std::vector<Path> paths;
  };

  bool insecure(const Hold& hold) const {
    // An owner may see its own object again long after it was freed: from a file, or from one who lost it.
    if (owner(hold.second) == hold.first) return objects_.at(hold.second).freed;
    const auto position = records_.find(hold);
    if (position == records_.end() || position->second.registered) return false;
    for (const Path& path : position->second.paths) {
      if (!path.broken) return false;
    }
    return !position->second.paths.empty();
  }

  bool break_paths(Record& record) const {
    bool changed = false;
    for (Path& path : record.paths) {
      if (path.broken) continue;
      for (const Hold& guard : path.guards) path.broken |= !alive(guard.first) || insecure(guard);
      changed |= path.broken;
    }
    return changed;
  }

  std::vector<bool> alive_;
  std::map<ObjectId, TrueObject> objects_;
  std::map<Hold, Record> records_;
};

}  // namespace aktis::testing
