// SPDX-License-Identifier: Apache-2.0
#include "verify/forged_values_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace naite::verify {

using nlohmann::ordered_json;

namespace {

void collect(ordered_json& value, std::vector<ordered_json*>& out) {
  out.push_back(&value);
  if (value.is_structured())
    for (ordered_json& item : value) collect(item, out);
}

ordered_json other_number(const ordered_json& value, Dice& dice) {
  if (dice.one_in(6)) return fmt::format("{}", value.dump());
  if (value.is_number_integer())
    return dice.among(std::array<int64_t, 6>{0, -1, 1, int64_t{1} << 53, 9999999, 7}) +
           (dice.one_in(2) ? value.get<int64_t>() : 0);
  return dice.among(std::array{0.0, -1.0, 1e308, 0.5, 1.0 + 1e-12}) *
         (dice.one_in(2) ? value.get<double>() : 1.0);
}

std::string other_text(std::string text, Dice& dice) {
  switch (dice.below(5)) {
    case 0:
      return "";
    case 1:
      return text + dice.among(std::array{"x", " ", "\n", "\xe2\x80\x8b", "\x1b[2J", "/../x"});
    case 2:
      return dice.among(std::array{"CC0-1.0", "0", "true", "../x", "example.edu"});
    default:
      if (text.empty()) return "x";
      char& c = text[dice.below(text.size())];
      c = c == '0' ? '1' : static_cast<unsigned char>(c) < 0x80 ? '0' : c;
      return text;
  }
}

}  // namespace

std::string change_value(ordered_json& value, Dice& dice) {
  std::vector<ordered_json*> places;
  collect(value, places);
  ordered_json& place = *dice.among(places);
  const std::string before = place.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  if (place.is_object()) {
    const uint64_t kind = place.empty() ? 0 : dice.below(3);
    if (kind == 0) place[dice.among(std::array{"note", "auto_map", "mmlu", ""})] = "approved";
    if (kind == 1)
      place.erase(std::next(place.begin(), static_cast<int64_t>(dice.below(place.size()))));
    if (kind == 2) {
      // The same keys in another order.
      std::vector<std::pair<std::string, ordered_json>> items;
      for (const auto& [key, item] : place.items()) items.emplace_back(key, item);
      std::rotate(items.begin(), items.begin() + 1, items.end());
      place = ordered_json::object();
      for (const auto& [key, item] : items) place[key] = item;
    }
  } else if (place.is_array()) {
    const uint64_t kind = place.empty() ? 0 : dice.below(3);
    if (kind == 0) place.push_back(place.empty() ? ordered_json(1) : place[0]);
    if (kind == 1) place.erase(dice.below(place.size()));
    if (kind == 2) std::reverse(place.begin(), place.end());
  } else if (place.is_number()) {
    place = other_number(place, dice);
  } else if (place.is_string()) {
    place = other_text(place.get<std::string>(), dice);
  } else {
    place = place.is_boolean() ? ordered_json(!place.get<bool>()) : ordered_json(1);
  }
  return fmt::format(
      "{} becomes {}", before.substr(0, 100),
      place.dump(-1, ' ', false, ordered_json::error_handler_t::replace).substr(0, 100));
}

std::string respell(std::string& text, Dice& dice) {
  const ordered_json value = ordered_json::parse(text, nullptr, false);
  const uint64_t kind = dice.below(5);
  const size_t at = dice.below(std::max<size_t>(1, text.size()));
  if (kind == 0 && value.is_object() && !value.empty()) {
    const auto item = std::next(value.begin(), static_cast<int64_t>(dice.below(value.size())));
    const size_t brace = text.find('{');
    text.insert(brace + 1, fmt::format("\"{}\":{},", item.key(), dice.one_in(2) ? "0" : "\"x\""));
    return "the key " + item.key() + " twice";
  }
  if (kind == 1) {
    const size_t digit = text.find_first_of("0123456789", at);
    const size_t end = text.find_first_not_of("0123456789", digit);
    if (end == std::string::npos || (text[end] != ',' && text[end] != '\n' && text[end] != '}'))
      return "";
    text.insert(end, dice.among(std::array{".0", "e0", "E+0"}));
    return fmt::format("a number spelled otherwise at {}", digit);
  }
  if (kind == 2) {
    text = text.substr(0, text.find_last_not_of(" \n") + 1) +
           dice.among(std::array{"", "\n\n", "\r\n", " \n"});
    return "another end of line";
  }
  if (kind == 3) {
    const size_t letter = text.find_first_of("abcdefghijklm", at);
    if (letter == std::string::npos || text.rfind('\\', letter) == letter - 1) return "";
    text.replace(letter, 1, fmt::format("\\u{:04x}", text[letter]));
    return fmt::format("a letter spelled as an escape at {}", letter);
  }
  const size_t place = text.find_first_of(",:{[", at);
  if (place == std::string::npos) return "";
  text.insert(place + 1, dice.among(std::array{" ", "\n", "\t"}));
  return fmt::format("white space at {}", place);
}

TensorParts TensorParts::parse(const std::string& text) {
  TensorParts out;
  uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  const ordered_json header = ordered_json::parse(text.substr(8, length));
  std::vector<std::pair<size_t, Tensor>> found;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      out.metadata = value;
      continue;
    }
    const auto begin = value["data_offsets"][0].get<size_t>();
    const auto end = value["data_offsets"][1].get<size_t>();
    found.push_back(
        {begin,
         {name, value["dtype"], value["shape"], text.substr(8 + length + begin, end - begin)}});
    out.header.push_back(name);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [at, tensor] : found) out.tensors.push_back(std::move(tensor));
  return out;
}

std::string TensorParts::text() const {
  std::map<std::string, ordered_json> described;
  std::string data;
  for (const Tensor& tensor : tensors) {
    const size_t begin = data.size();
    data += tensor.bytes;
    described[tensor.name] = {
        {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
    if (&tensor == &tensors.front()) data += gap;
  }
  ordered_json all = ordered_json::object();
  if (!metadata.is_null()) all["__metadata__"] = metadata;
  for (const std::string& name : header)
    if (described.contains(name)) all[name] = described[name];
  for (const Tensor& tensor : tensors) all[tensor.name] = described[tensor.name];
  std::string text = all.dump();
  text += std::string((8 - text.size() % 8) % 8 + padding, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data + tail;
}

namespace {

std::string change_values(TensorParts& parts, Dice& dice) {
  TensorParts::Tensor& tensor = parts.tensors[dice.below(parts.tensors.size())];
  const size_t width = tensor.type == "F32" ? 4 : 2;
  const size_t at = dice.below(tensor.bytes.size() / width) * width + width - 1;
  switch (dice.below(7)) {
    case 0:
      tensor.bytes[at] = static_cast<char>(tensor.bytes[at] ^ 0x80);
      return tensor.name + ": a sign";
    case 1:
      tensor.bytes[at] = '\x7f';
      tensor.bytes[at - 1] = static_cast<char>(0xc0);
      return tensor.name + ": a value that is none";
    case 2:
      tensor.bytes[at] = '\x7f';
      tensor.bytes[at - 1] = static_cast<char>(0x80);
      return tensor.name + ": a value without bound";
    case 3: {
      TensorParts::Tensor& other = parts.tensors[dice.below(parts.tensors.size())];
      if (other.bytes.size() != tensor.bytes.size()) return "";
      std::swap(tensor.bytes, other.bytes);
      return fmt::format("{} and {} swapped", tensor.name, other.name);
    }
    case 4: {
      const std::string before = tensor.name;
      tensor.name += dice.one_in(2) ? "_scale" : ".lora_A.weight";
      return before + " renamed";
    }
    case 5: {
      TensorParts::Tensor more = tensor;
      more.name =
          dice.among(std::array{"lm_head.weight", "model.layers.9.mlp.up_proj.weight", "x"});
      parts.tensors.push_back(more);
      return more.name + " added";
    }
    default:
      tensor.bytes[at - 1] = static_cast<char>(tensor.bytes[at - 1] ^ 1);
      return tensor.name + ": a bit";
  }
}

std::string change_layout(TensorParts& parts, Dice& dice) {
  switch (dice.below(8)) {
    case 0:
      std::rotate(parts.header.begin(), parts.header.begin() + 1, parts.header.end());
      return "another order in the header";
    case 1:
      std::rotate(parts.tensors.begin(), parts.tensors.begin() + 1, parts.tensors.end());
      return "another order of tensors";
    case 2:
      parts.padding = 8 * (1 + dice.below(1000));
      return "more padding";
    case 3:
      parts.metadata = {{"format", dice.among(std::array{"pt", "np", "naite", "<script>"})}};
      return "other metadata";
    case 4:
      parts.tail = std::string(1 + dice.below(99), 'x');
      return "bytes behind the last tensor";
    case 5:
      parts.gap = std::string(4, 'x');
      return "bytes between tensors";
    case 6: {
      // The same values in a wider type.
      TensorParts::Tensor& tensor = parts.tensors[dice.below(parts.tensors.size())];
      if (tensor.type != "BF16") return "";
      std::string wide;
      for (size_t i = 0; i < tensor.bytes.size(); i += 2)
        wide += std::string(2, '\0') + tensor.bytes.substr(i, 2);
      tensor.bytes = wide;
      tensor.type = "F32";
      return tensor.name + " in fp32";
    }
    default: {
      TensorParts::Tensor& tensor = parts.tensors[dice.below(parts.tensors.size())];
      tensor.shape.insert(tensor.shape.begin(), 1);
      return tensor.name + " with another shape";
    }
  }
}

}  // namespace

std::string change_tensors(TensorParts& parts, Dice& dice) {
  return dice.one_in(2) ? change_values(parts, dice) : change_layout(parts, dice);
}

TEST(ForgedValues, TensorFilesAreTakenApartAndPutTogether) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]},)"
      R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}})";
  std::string text = header + std::string((8 - header.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  text = std::string(reinterpret_cast<const char*>(&length), 8) + text + "aabbbb";
  EXPECT_EQ(TensorParts::parse(text).text(), text);
}

}  // namespace naite::verify
