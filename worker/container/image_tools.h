// Which commands fetch an image and make a root directory of it, per tool. Pure: tutti-image runs them, tests
// compare them. All end in one of two things: an unpacked root, or an OCI archive that oci_archive.h unpacks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tutti::container {

/// What an image in a spec names.
enum class ImageKind {
  registry,  // to be fetched by a tool
  archive,   // a file on the node: OCI or docker archive, or a tarball of a root
  folder     // on the node: a root directory, or an OCI layout
};
struct ImageName {
  ImageKind kind = ImageKind::registry;
  std::string name;  // without its scheme: "acme/train:1.4", "/images/x.tar"
};
/// `is_folder`: what lies at a path is a folder.
ImageName name_image(std::string_view image, bool (*is_folder)(const std::string&));

struct Fetch {
  std::vector<std::vector<std::string>> commands;  // one after the other
  std::string archive;                             // then this file is to be unpacked; "" = `root` is ready
};
/// `work`: a folder to work in, the user's own, empty at first and removed afterwards; `root`: does not
/// exist.
Fetch plan_fetch(std::string_view tool, const std::string& image, const std::string& work,
                 const std::string& root);

/// The tool to use: `wanted` "auto" takes the first of kTools that is found; "none" and what is not found
/// give
/// "". `find` returns the path of a program, "" = not in PATH.
std::string choose_tool(std::string_view wanted, std::string (*find)(std::string_view program));

}  // namespace tutti::container
