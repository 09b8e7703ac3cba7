// Files that are whole or absent, whatever dies when: written under another name, then renamed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace tutti::charlm {

enum class Durability {
  survives_power_loss,  // fsync of the file before the rename and of its directory after it
  survives_process,     // rename only: for progress, which is worth nothing after a reboot
};

// Throws Failure{io}. One writer per path.
void write_file(const std::filesystem::path& path, std::span<const std::byte> content, Durability durability);
void write_file(const std::filesystem::path& path, std::string_view content, Durability durability);

// Makes entries created in or removed from the directory durable. Throws Failure{io}.
void sync_directory(const std::filesystem::path& directory);

}  // namespace tutti::charlm
