// Explores a model as a whole.
#pragma once

#include <deque>
#include <map>
#include <vector>

namespace qp::apply {

// All worlds that can come about from `start`, each with those that can follow it at once. World is
// ordered; successors(World) gives a vector.
template <class World, class Successors>
std::map<World, std::vector<World>> explore(const World& start, Successors successors) {
  std::map<World, std::vector<World>> found;
  std::deque<World> open = {start};
  while (!open.empty()) {
    const World world = open.front();
    open.pop_front();
    if (found.count(world) == 0) {
      for (const World& next : found[world] = successors(world)) {
        open.push_back(next);
      }
    }
  }
  return found;
}

}  // namespace qp::apply
