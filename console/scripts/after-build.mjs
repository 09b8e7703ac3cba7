// After vite: compressed twins for the server, and the bound on what the first page loads.
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const kMostBytes = 350_000;
const dist = fileURLToPath(new URL("../dist", import.meta.url));
const onlyCheck = process.argv.includes("--only-check");

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else yield path;
  }
}
if (!onlyCheck) {
  for (const path of files(dist)) {
    if (!/\.(js|css|html|svg|txt)$/.test(path) || statSync(path).size < 1024) continue;
    writeFileSync(path + ".gz", gzipSync(readFileSync(path), { level: 9 }));
  }
}
const manifestPath = join(dist, ".vite", "manifest.json");
const keep = fileURLToPath(new URL("../node_modules/.cache/console-manifest.json", import.meta.url));
if (existsSync(manifestPath)) {
  writeFileSync(keep, readFileSync(manifestPath));
  rmSync(join(dist, ".vite"), { recursive: true });
}
const manifest = JSON.parse(readFileSync(keep, "utf8"));
const seen = new Set();
function initial(key) {
  const entry = manifest[key];
  if (!entry || seen.has(entry.file)) return;
  seen.add(entry.file);
  for (const next of entry.imports ?? []) initial(next);
}
initial("index.html");
const size = (file) => gzipSync(readFileSync(join(dist, file)), { level: 9 }).length;
const shell = [...seen].reduce((sum, file) => sum + size(file), 0);
initial("src/pages/overview.tsx");
const total = [...seen].reduce((sum, file) => sum + size(file), 0) + size("theme.js");
console.log(`initial JavaScript, compressed: ${(shell / 1000).toFixed(1)} kB the frame, ${(total / 1000).toFixed(1)} kB with the overview (bound ${kMostBytes / 1000} kB)`);
for (const key of Object.keys(manifest)) if (key.startsWith("src/pages/")) console.log(`  ${key.slice(10)}: ${(size(manifest[key].file) / 1000).toFixed(1)} kB`);
if (total > kMostBytes) {
  console.error("too much");
  process.exit(1);
}
