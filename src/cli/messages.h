// How refusals and failures are told, as text and as JSON.
#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/report.h"

namespace qp::cli {

inline constexpr int kSchema = 1;  // of every --json output

void print_refusals(const std::vector<Refusal>& findings);  // stderr
void print_error(const Error& error);                       // stderr
void print_warnings(const std::vector<std::string>& warnings);

nlohmann::json to_json(const std::vector<Refusal>& findings);
void print_json(nlohmann::json value);  // adds "schema", stdout

}  // namespace qp::cli
