#include "cli/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "cli/failure.h"

namespace tutti::cli {

namespace {

constexpr double kWidth = 800, kHeight = 440, kLeft = 64, kRight = 150, kTop = 46, kBottom = 52;
// Told apart by people who see few colours too: hue, lightness and dash differ.
constexpr std::array kColours = {"#1b4f9c", "#c4501b", "#2a8a57", "#7d3c98", "#8a6d00", "#555555", "#b3306b"};
constexpr std::array kDashes = {"", "8 4", "2 3", "10 3 2 3", "4 4", "1 2", "12 4"};

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", v);
  return text;
}

std::string escaped(const std::string& s) {
  std::string out;
  for (const char c : s)
    out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

std::string label(double x, double y, const char* anchor, const std::string& text) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\">" +
         escaped(text) + "</text>\n";
}

// Seconds on a logarithmic scale from 1 s to a million.
double across(double seconds) {
  const double part = std::clamp(std::log10(std::max(seconds, 1.0)) / 6, 0.0, 1.0);
  return kLeft + part * (kWidth - kLeft - kRight);
}
double up(double share) { return kHeight - kBottom - share * (kHeight - kTop - kBottom); }

std::string axes() {
  std::string out;
  static constexpr std::array<std::pair<double, const char*>, 7> kTimes = {{{1, "≤ 1 s"},
                                                                            {10, "10 s"},
                                                                            {60, "1 min"},
                                                                            {600, "10 min"},
                                                                            {3600, "1 h"},
                                                                            {36'000, "10 h"},
                                                                            {360'000, "100 h"}}};
  for (const auto& [seconds, text] : kTimes) {
    out += "<line class=\"grid\" x1=\"" + number(across(seconds)) + "\" y1=\"" + number(up(0)) + "\" x2=\"" +
           number(across(seconds)) + "\" y2=\"" + number(up(1)) + "\"/>\n";
    out += label(across(seconds), up(0) + 18, "middle", text);
  }
  for (int percent = 0; percent <= 100; percent += 20) {
    out += "<line class=\"grid\" x1=\"" + number(kLeft) + "\" y1=\"" + number(up(percent / 100.0)) +
           "\" x2=\"" + number(kWidth - kRight) + "\" y2=\"" + number(up(percent / 100.0)) + "\"/>\n";
    out += label(kLeft - 8, up(percent / 100.0) + 4, "end", std::to_string(percent) + " %");
  }
  out += label((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", "wait: completion minus run time");
  return out;
}

}  // namespace

std::string waits_svg(const std::vector<Curve>& curves) {
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 440\" font-family=\"sans-serif\" "
      "font-size=\"12\" role=\"img\">\n"
      "<title>Share of jobs that waited at most so long, by policy</title>\n"
      "<style>.grid{stroke:#ddd;stroke-width:1} text{fill:#222}</style>\n"
      "<rect width=\"800\" height=\"440\" fill=\"#fff\"/>\n";
  out += "<text x=\"" + number(kLeft) +
         "\" y=\"24\" font-size=\"15\">Share of jobs that waited at most so long</text>\n" + axes();
  for (std::size_t c = 0; c < curves.size(); ++c) {
    auto values = curves[c].values;
    if (values.empty()) continue;
    std::ranges::sort(values);
    const char* colour = kColours[c % kColours.size()];
    const std::string stroke = std::string("fill=\"none\" stroke-width=\"2\" stroke=\"") + colour +
                               "\" stroke-dasharray=\"" + kDashes[c % kDashes.size()] + "\"";
    std::string points;
    constexpr std::size_t kPoints = 400;
    for (std::size_t i = 0; i <= kPoints; ++i) {
      const auto at = std::min(values.size() - 1, i * values.size() / kPoints);
      points += number(across(values[at])) + "," + number(up(static_cast<double>(i) / kPoints)) + " ";
    }
    out += "<polyline " + stroke + " points=\"" + points + "\"/>\n";
    const double y = kTop + 14 + 22 * static_cast<double>(c);
    out += "<line " + stroke + " x1=\"" + number(kWidth - kRight + 14) + "\" y1=\"" + number(y - 4) +
           "\" x2=\"" + number(kWidth - kRight + 44) + "\" y2=\"" + number(y - 4) + "\"/>\n";
    out += label(kWidth - kRight + 50, y, "start", curves[c].name);
  }
  return out + "</svg>\n";
}

void plot_waits(const std::string& folder, const std::vector<Curve>& curves) {
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  const std::string path = folder + "/waits.svg";
  std::ofstream file(path);
  file << waits_svg(curves);
  if (!file.flush()) throw Failure(Exit::usage, "--plot: cannot write " + path);
}

}  // namespace tutti::cli
