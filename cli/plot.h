// Pictures of a replay: plain SVG, no fonts or scripts from elsewhere.
#pragma once

#include <string>
#include <vector>

namespace tutti::cli {

struct Curve {
  std::string name;
  std::vector<double> values;  // seconds
};

// waits.svg: which share of the jobs waited at most so long, one line per policy. Throws Failure when it
// cannot be written.
void plot_waits(const std::string& folder, const std::vector<Curve>& curves);
std::string waits_svg(const std::vector<Curve>& curves);

}  // namespace tutti::cli
