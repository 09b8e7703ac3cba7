#include "tests/e2e/intervals.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/e2e/failure.h"

namespace tutti::e2e {
namespace {

void add(Intervals& all, std::int64_t job, std::int64_t epoch, std::int64_t first, std::int64_t last,
         int starts) {
  Interval& i = all[job][epoch];
  if (first != 0) i.first_us = i.first_us == 0 ? first : std::min(i.first_us, first);
  i.last_us = std::max(i.last_us, last);
  i.starts += starts;
}

}  // namespace

Intervals read_intervals(const std::string& interval_file, const std::string& stamp_directory) {
  Intervals all;
  std::ifstream lines(interval_file);
  for (std::string line; std::getline(lines, line);) {
    const auto o = boost::json::parse(line).as_object();
    const auto number = [&](const char* name) {
      const auto* v = o.if_contains(name);
      return v == nullptr ? 0 : v->to_number<std::int64_t>();
    };
    const auto start = number("start_us"), stop = number("stop_us");
    add(all, number("job"), number("epoch"), start, std::max(start, stop), start != 0 ? 1 : 0);
  }
  for (const auto& entry : std::filesystem::directory_iterator(stamp_directory)) {
    long long job = 0, epoch = 0, rank = 0;
    const std::string name = entry.path().filename();
    if (std::sscanf(name.c_str(), "%lld-%lld-%lld", &job, &epoch, &rank) != 3)
      throw Failure("what is " + entry.path().string() + "?");
    std::int64_t page[2] = {};
    std::ifstream in(entry.path(), std::ios::binary);
    if (in.read(reinterpret_cast<char*>(page), sizeof page)) add(all, job, epoch, page[0], page[1], 0);
  }
  return all;
}

std::string find_overlap(const Intervals& intervals) {
  for (const auto& [job, epochs] : intervals) {
    std::int64_t last = 0, former = 0;
    for (const auto& [epoch, interval] : epochs) {
      if (interval.first_us <= last)
        return "job " + std::to_string(job) + ": epoch " + std::to_string(epoch) + " began at " +
               std::to_string(interval.first_us) + " us, but a rank of epoch " + std::to_string(former) +
               " lived until " + std::to_string(last) + " us";
      if (interval.last_us > last) {
        last = interval.last_us;
        former = epoch;
      }
    }
  }
  return {};
}

}  // namespace tutti::e2e
