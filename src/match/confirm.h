// Whether a place without a name is confirmed by something else than its own code.
#pragma once

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "match/hypotheses.h"
#include "match/order.h"

namespace qp::match {

// What all functions that have one place left say about the object's symbols. Made anew for each
// round.
class Confirmation {
 public:
  Confirmation(const Hypotheses& hypotheses, Order& order);
  // A name, another function that refers to it, a static variable or function that another function
  // found at the same address, or the place beside a neighbour. False also if more functions say
  // otherwise.
  bool is_confirmed(const Function& function, const Candidate& candidate) const;

 private:
  struct Vote {
    elf::Binding binding;
    uint32_t count = 0;
  };
  void vote(const Candidate& candidate);
  bool is_contested(const Function& function, LinkAddr at) const;

  const Hypotheses& hypotheses_;
  Order& order_;
  std::map<elf::AtomSymbolId, std::vector<Vote>> votes_;
  std::map<LinkAddr, std::vector<elf::AtomId>> claims_;  // by place: functions that may be there
};

// Chosen functions without a name that hang together with too little: neither with a named
// function, nor with at least half of what was chosen.
std::set<elf::AtomId> find_unconnected(const Hypotheses& hypotheses, const Order& order);

}  // namespace qp::match
