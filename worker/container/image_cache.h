// The unpacked images of one user on one node: <cache>/<key>/{root,variables,size}, beside each a lock file
// <key>.lock. Whoever unpacks holds it exclusively, whoever runs in it shared; what nobody holds and nobody
// has used for a while may be removed to make room. <key>.work is what is being made or removed; what nobody
// works at goes when room is made. Blocking: setup's deadline is the end of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "worker/supervisor/fd.h"

namespace tutti::container {

struct CachedImage {
  std::string root;
  std::vector<std::string> variables;  // "NAME=VALUE"
  std::string lock;                    // to be held shared while it is in use
};

/// `identity`: what the image is, in any words. `make` is called when it is not there, with a folder to work
/// in and the root to make, and returns the image's variables. Throws std::runtime_error, also when the cache
/// would hold more than `limit` bytes in use.
CachedImage cached_image(
    const std::string& cache, std::int64_t limit, const std::string& identity,
    const std::function<std::vector<std::string>(const std::string& work, const std::string& root)>& make);

/// In use as long as the descriptor is open, also across exec. Somebody may hold it exclusively for a moment,
/// to look whether it can go. Throws std::system_error.
supervisor::Fd hold_image(const std::string& lock, std::chrono::milliseconds patience);

/// Name of an image's folder in the cache.
std::string cache_key(const std::string& identity);

}  // namespace tutti::container
