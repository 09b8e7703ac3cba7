// LICENSES.txt: the licence of every package whose code is in the bundle, from what is installed.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const seen = new Map();
function where(name, from) {
  for (let folder = from; folder.length >= root.length - 1; folder = join(folder, "..")) {
    const path = join(folder, "node_modules", name);
    if (existsSync(join(path, "package.json"))) return path;
  }
  return null;
}
function add(name, from) {
  const path = where(name, from);
  if (!path || seen.has(path)) return;
  const about = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  if (name.startsWith("@types/")) return;
  const file = readdirSync(path).find((each) => /^(licen[cs]e|copying)/i.test(each));
  seen.set(path, { name, version: about.version, license: about.license ?? "see its text", text: file ? readFileSync(join(path, file), "utf8").trim() : "(its package has no licence text; it says: " + about.license + ")" });
  for (const next of Object.keys(about.dependencies ?? {})) add(next, path);
}
for (const name of Object.keys(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).dependencies)) add(name, root);
const all = [...seen.values()].sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version));
const line = "-".repeat(78);
writeFileSync(join(root, "LICENSES.txt"), `Packages whose code is part of the console, and their licences. Made by: npm run licenses\n\n${all.map((each) => `${each.name} ${each.version}: ${each.license}`).join("\n")}\n\n${all.map((each) => `${line}\n${each.name} ${each.version}\n${line}\n\n${each.text}\n`).join("\n")}`.replaceAll("\r", "").replace(/[ \t]+$/gm, ""));
console.log(`${all.length} packages: ${[...new Set(all.map((each) => each.license))].join(", ")}`);
