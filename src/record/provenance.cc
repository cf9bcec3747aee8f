// SPDX-License-Identifier: Apache-2.0
#include "record/provenance.h"

#include <nlohmann/json.hpp>

namespace naite::record {

using nlohmann::json;

namespace {

json sha256_list(const std::string& digest) {
  return json::array({{{"alg", "SHA-256"}, {"content", digest}}});
}

json property(const char* name, const std::string& value) {
  return {{"name", fmt::format("naite:{}", name)}, {"value", value}};
}

json number(const char* name, int64_t value) { return property(name, fmt::format("{}", value)); }

// A UUID that only this run has: RFC 9562, version 8, from the log's origin.
std::string serial_number(const std::string& origin) {
  std::string hex = sha256_hex("bill of materials of " + origin).substr(0, 32);
  hex[12] = '8';
  hex[16] = 'a';
  return fmt::format("urn:uuid:{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4),
                     hex.substr(12, 4), hex.substr(16, 4), hex.substr(20));
}

json file_component(const std::string& name, const std::string& sha256) {
  return {{"type", "file"},
          {"bom-ref", "data/" + name},
          {"name", name},
          {"hashes", sha256_list(sha256)}};
}

json shards_of(const data::ManifestSource& source) {
  json out = json::array();
  for (const data::ManifestSplit* split : {&source.train, &source.validation})
    for (const data::ManifestShard& shard : split->shards) {
      out.push_back(file_component(shard.file, shard.sha256));
      out.push_back(file_component(data::starts_name(shard.file), shard.starts_sha256));
      if (shard.has_weights())
        out.push_back(file_component(data::weights_name(shard.file), shard.weights_sha256));
    }
  return out;
}

json source_component(const data::ManifestSource& source) {
  json out = {{"type", "data"},
              {"bom-ref", "source/" + source.name},
              {"name", source.name},
              {"data", json::array({{{"type", "dataset"}, {"name", source.name}}})},
              {"components", shards_of(source)}};
  if (!source.license.empty())
    out["licenses"] = json::array({{{"license", {{"name", source.license}}}}});
  out["properties"] = {number("train_documents", source.train.documents),
                       number("train_tokens", source.train.tokens),
                       number("held_out_documents", source.validation.documents),
                       number("held_out_tokens", source.validation.tokens)};
  if (!source.origin.empty()) out["properties"].push_back(property("origin", source.origin));
  return out;
}

}  // namespace

std::string provenance_text(const Commitment& claims, const StoredState* parent, int64_t step,
                            const std::map<std::string, std::string>& files) {
  json subjects = json::array();
  for (const auto& [file, digest] : files)
    if (file.ends_with(".safetensors"))
      subjects.push_back({{"name", file}, {"digest", {{"sha256", digest}}}});
  json sources = json::array(
      {{{"name", "data"}, {"digest", {{"sha256", claims.data_digest}}}},
       {{"name", "tokenizer.json"}, {"digest", {{"sha256", claims.tokenizer_sha256}}}}});
  if (parent != nullptr)
    sources.push_back({{"name", parent->directory}, {"digest", {{"sha256", parent->manifest}}}});
  const json statement = {{"_type", "https://in-toto.io/Statement/v1"},
                          {"subject", subjects},
                          {"predicateType", "https://slsa.dev/provenance/v1"},
                          {"predicate",
                           {{"buildDefinition",
                             {{"buildType", "urn:naite:training:1"},
                              {"externalParameters",
                               {{"training_digest", claims.training_digest},
                                {"first_step", parent != nullptr ? parent->step : 0},
                                {"end_step", step}}},
                              {"internalParameters", json::object()},
                              {"resolvedDependencies", sources}}},
                            {"runDetails",
                             {{"builder",
                               {{"id", fmt::format("urn:naite:commit:{}", claims.source_commit)},
                                {"version", {{"naite", claims.version}}}}},
                              {"metadata", {{"invocationId", claims.origin}}}}}}}};
  return statement.dump(2) + "\n";
}

std::string bill_of_materials(const Commitment& claims, const data::Manifest& manifest) {
  json components = json::array(), used = json::array();
  for (const data::ManifestSource& source : manifest.sources)
    components.push_back(source_component(source));
  components.push_back({{"type", "data"},
                        {"bom-ref", "tokenizer.json"},
                        {"name", "tokenizer.json"},
                        {"data", json::array({{{"type", "configuration"}}})},
                        {"hashes", sha256_list(claims.tokenizer_sha256)},
                        {"properties", json::array({number("vocabulary", manifest.vocab_size)})}});
  for (const json& component : components) used.push_back(component["bom-ref"]);
  const json program = {
      {"type", "application"},
      {"name", "naite"},
      {"version", claims.version},
      {"properties", json::array({property("source_commit", claims.source_commit)})}};
  const json model = {
      {"type", "machine-learning-model"},
      {"bom-ref", "model"},
      {"name", claims.name},
      {"properties",
       {property("origin", claims.origin), property("architecture", claims.architecture),
        number("parameters", claims.parameters),
        property("training_digest", claims.training_digest),
        property("data_digest", claims.data_digest)}}};
  const json bill = {
      {"bomFormat", "CycloneDX"},
      {"specVersion", "1.6"},
      {"serialNumber", serial_number(claims.origin)},
      {"version", 1},
      {"metadata", {{"tools", {{"components", json::array({program})}}}, {"component", model}}},
      {"components", components},
      {"dependencies", json::array({{{"ref", "model"}, {"dependsOn", used}}})}};
  return bill.dump(2) + "\n";
}

}  // namespace naite::record
