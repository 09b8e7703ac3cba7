// An OCI archive (or layout, or docker archive, or the tarball of a root) becomes a root directory. Runs
// inside a sandbox where only the target can be written: what is in an archive is not to be trusted with the
// user's files. Layers are applied by tar; what they delete
// (whiteouts), and folders that become files or links, are removed by us.
#pragma once

#include <string>
#include <vector>

namespace tutti::container {

/// `source`: a file or a folder; `work`: exists, may be filled; `root`: is made. Returns the image's
/// variables, "NAME=VALUE". Throws std::runtime_error.
std::vector<std::string> unpack_image(const std::string& source, const std::string& work,
                                      const std::string& root);

bool is_oci_layout(const std::string& folder);

}  // namespace tutti::container
