// SPDX-License-Identifier: Apache-2.0
#include "tape/plan.h"

#include <algorithm>
#include <limits>

namespace naite::tape {

namespace {

constexpr int64_t kAlignment = 64;

class Planner {
 public:
  Planner(const Tape& tape, bool recompute)
      : tape_(tape),
        num_buffers_(static_cast<int>(tape.buffers().size())),
        recompute_(recompute && tape.gradients()) {}

  Plan make() {
    find_saved();
    find_gradients();
    order_steps();
    find_lifetimes();
    place();
    for (const Buffer& buffer : tape_.buffers())
      if (buffer.is_leaf()) plan_.data_bytes += aligned(buffer.info.bytes());
    for (const Node& node : tape_.nodes())
      plan_.workspace_bytes = std::max(plan_.workspace_bytes, node.workspace_bytes);
    return std::move(plan_);
  }

 private:
  static int64_t aligned(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  static bool bit(uint32_t mask, size_t j) { return (mask >> j & 1u) != 0; }

  // A value that another segment or the host reads stays, and so do leaves.
  void find_saved() {
    plan_.saved.assign(num_buffers_, true);
    if (!recompute_) return;
    std::vector<int> producer(num_buffers_, -1);
    for (const Node& node : tape_.nodes()) {
      for (int b : node.out) {
        producer[b] = node.segment;
        plan_.saved[b] = tape_.buffers()[b].kept || node.info.is_loss;
      }
    }
    for (const Node& node : tape_.nodes())
      for (int b : node.in)
        if (producer[b] != node.segment) plan_.saved[b] = true;
  }

  // Walks backwards from the losses: which buffers receive a gradient, which nodes have a backward.
  void find_gradients() {
    plan_.has_gradient.assign(num_buffers_, false);
    backward_.assign(tape_.nodes().size(), false);
    if (!tape_.gradients()) return;
    for (int i = static_cast<int>(tape_.nodes().size()) - 1; i >= 0; --i) {
      const Node& node = tape_.nodes()[i];
      bool reached = node.info.is_loss;
      for (int b : node.out) reached |= plan_.has_gradient[b];
      backward_[i] = reached;
      if (!reached) continue;
      for (int b : node.in)
        if (tape_.buffers()[b].needs_gradient) plan_.has_gradient[b] = true;
    }
  }

  void order_steps() {
    const int num_nodes = static_cast<int>(tape_.nodes().size());
    for (int i = 0; i < num_nodes; ++i) plan_.steps.push_back({i, Phase::kForward});
    if (!tape_.gradients()) return;
    int end = num_nodes;
    while (end > 0) {
      int begin = end - 1;
      const int segment = tape_.nodes()[begin].segment;
      while (begin > 0 && tape_.nodes()[begin - 1].segment == segment) --begin;
      if (recompute_) recompute_segment(begin, end);
      for (int i = end - 1; i >= begin; --i)
        if (backward_[i]) plan_.steps.push_back({i, Phase::kBackward});
      end = begin;
    }
  }

  // Repeats those nodes of [begin, end) whose values its backward nodes, directly or through other
  // repeated nodes, read.
  void recompute_segment(int begin, int end) {
    std::vector<bool> wanted(num_buffers_, false), repeat(end - begin, false);
    for (int i = begin; i < end; ++i) {
      if (!backward_[i]) continue;
      const Node& node = tape_.nodes()[i];
      for (size_t j = 0; j < node.in.size(); ++j)
        if (bit(node.info.reads_inputs, j)) wanted[node.in[j]] = true;
      for (size_t j = 0; j < node.out.size(); ++j)
        if (bit(node.info.reads_outputs, j) && !node.info.is_loss) wanted[node.out[j]] = true;
    }
    for (int i = end - 1; i >= begin; --i) {
      const Node& node = tape_.nodes()[i];
      for (int b : node.out)
        repeat[i - begin] = repeat[i - begin] || (wanted[b] && !plan_.saved[b]);
      if (!repeat[i - begin]) continue;
      for (int b : node.in) wanted[b] = true;
    }
    for (int i = begin; i < end; ++i)
      if (repeat[i - begin]) plan_.steps.push_back({i, Phase::kRecompute});
  }

  struct Life {
    int first = std::numeric_limits<int>::max(), last = -1;
    void touch(int step) {
      first = std::min(first, step);
      last = std::max(last, step);
    }
  };

  void find_lifetimes() {
    std::vector<Life> values[2], gradients(num_buffers_);
    values[0].resize(num_buffers_);
    values[1].resize(num_buffers_);
    std::vector<bool> written(num_buffers_, false);
    const int num_steps = static_cast<int>(plan_.steps.size());
    plan_.accumulate.resize(num_steps);
    for (int s = 0; s < num_steps; ++s) {
      const Step& step = plan_.steps[s];
      const Node& node = tape_.nodes()[step.node];
      if (step.phase != Phase::kBackward) {
        for (int b : node.in) values[plan_.version(step, b)][b].touch(s);
        for (int b : node.out) values[plan_.version(step, b)][b].touch(s);
        continue;
      }
      for (size_t j = 0; j < node.in.size(); ++j) {
        const int b = node.in[j];
        if (bit(node.info.reads_inputs, j)) values[plan_.version(step, b)][b].touch(s);
        plan_.accumulate[s].push_back(written[b]);
        if (!plan_.has_gradient[b]) continue;
        written[b] = true;
        gradients[b].touch(s);
      }
      for (size_t j = 0; j < node.out.size(); ++j) {
        const int b = node.out[j];
        if (bit(node.info.reads_outputs, j) || node.info.is_loss)
          values[plan_.version(step, b)][b].touch(s);
        if (plan_.has_gradient[b]) gradients[b].touch(s);
      }
    }
    for (int b = 0; b < num_buffers_; ++b)
      if (tape_.buffers()[b].kept) values[0][b].touch(num_steps);
    list_placements(values, gradients);
  }

  void list_placements(const std::vector<Life> (&values)[2], const std::vector<Life>& gradients) {
    plan_.value_place[0].assign(num_buffers_, -1);
    plan_.value_place[1].assign(num_buffers_, -1);
    plan_.gradient_place.assign(num_buffers_, -1);
    auto add = [&](int b, bool is_gradient, int version, const Life& life) {
      plan_.placements.push_back({b, is_gradient, version, life.first, life.last,
                                  aligned(tape_.buffers()[b].info.bytes()), 0});
      return static_cast<int>(plan_.placements.size()) - 1;
    };
    for (int b = 0; b < num_buffers_; ++b) {
      if (tape_.buffers()[b].kind != Kind::kValue) continue;
      for (const int version : {0, 1})
        if (values[version][b].last >= 0)
          plan_.value_place[version][b] = add(b, false, version, values[version][b]);
      if (plan_.has_gradient[b]) plan_.gradient_place[b] = add(b, true, 0, gradients[b]);
    }
  }

  // Greedy by size: the largest first, each at the lowest offset that is free for its whole life.
  void place() {
    std::vector<int> order(plan_.placements.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return plan_.placements[a].bytes > plan_.placements[b].bytes;
    });
    std::vector<int> placed;
    for (const int index : order) {
      Placement& item = plan_.placements[index];
      std::vector<std::pair<int64_t, int64_t>> busy;
      for (const int other_index : placed) {
        const Placement& other = plan_.placements[other_index];
        if (other.first <= item.last && item.first <= other.last)
          busy.emplace_back(other.offset, other.offset + other.bytes);
      }
      std::sort(busy.begin(), busy.end());
      int64_t offset = 0;
      for (const auto& [low, high] : busy) {
        if (offset + item.bytes <= low) break;
        offset = std::max(offset, high);
      }
      item.offset = offset;
      placed.push_back(index);
      plan_.arena_bytes = std::max(plan_.arena_bytes, offset + item.bytes);
      plan_.naive_bytes += item.bytes;
    }
  }

  const Tape& tape_;
  const int num_buffers_;
  const bool recompute_;
  Plan plan_;
  std::vector<bool> backward_;  // by node
};

}  // namespace

Plan make_plan(const Tape& tape, bool recompute) { return Planner(tape, recompute).make(); }

}  // namespace naite::tape
