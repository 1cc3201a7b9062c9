#include "train/checkpoint_text.h"

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(std::string_view where, const std::string& why) {
  throw InputError("'" + std::string(where) + "': " + why);
}

}  // namespace

std::string state_text(const RunState& state) {
  const nlohmann::ordered_json json{{"step", state.step},
                                    {"tokens", state.tokens},
                                    {"skipped", state.skipped},
                                    {"skipped_in_row", state.skipped_in_row},
                                    {"data", Json::parse(state.data)},
                                    {"data_fingerprint", state.data_fingerprint}};
  return json.dump(1) + "\n";
}

RunState parse_state(std::string_view text, std::string_view where) {
  const Json json = io::parse_json(text, where);
  RunState state{io::whole_number(json, "step", where),
                 io::whole_number(json, "tokens", where),
                 io::whole_number(json, "skipped", where),
                 io::whole_number(json, "skipped_in_row", where),
                 {},
                 io::text_value(json, "data_fingerprint", where)};
  const auto data = json.find("data");
  if (data == json.end()) refuse(where, "the key 'data' is missing");
  state.data = data->dump();
  return state;
}

}  // namespace ufp4
