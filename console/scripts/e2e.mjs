// Runs the browser tests: a cluster of simulated GPUs (`tutti up`), the built pages in front of it, Playwright.
//   npm run e2e                  the stories and the accessibility checks
//   npm run scale                2,048 nodes and 100,000 jobs behind a small server of made-up answers; prints the times
//   npm run screenshots          every page, light and dark, into docs/images/
// TUTTI_BIN names the folder of the programs (default: ../build/*/bin, the newest); CHROMIUM the browser (default: from PATH).
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeServer } from "./server.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const args = process.argv.slice(2);
const scale = args.includes("--scale");
const screenshots = args.includes("--screenshots");
const rest = args.filter((arg) => arg !== "--scale" && arg !== "--screenshots");

function programs() {
  if (process.env.TUTTI_BIN) return process.env.TUTTI_BIN;
  const builds = join(root, "..", "build");
  const found = existsSync(builds) ? readdirSync(builds).map((name) => join(builds, name, "bin")).filter((bin) => existsSync(join(bin, "tutti"))) : [];
  found.sort((a, b) => statSync(join(b, "tutti")).mtimeMs - statSync(join(a, "tutti")).mtimeMs);
  if (!found[0]) throw new Error("no programs: build them, or set TUTTI_BIN");
  return found[0];
}
export function browser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome"])
    for (const folder of (process.env.PATH ?? "").split(delimiter)) if (existsSync(join(folder, name))) return join(folder, name);
  throw new Error("no Chromium: install one, or set CHROMIUM");
}
if (!existsSync(join(root, "dist", "index.html"))) {
  console.error("first: npm run build");
  process.exit(2);
}

const undo = [];
let leaving = false;
async function leave(code) {
  if (leaving) return;
  leaving = true;
  for (const each of undo.reverse()) await each();
  process.exit(code);
}
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => void leave(130));

const env = { ...process.env, CHROMIUM: browser() };
if (!scale) {
  const bin = programs();
  const data = mkdtempSync(join(tmpdir(), "tutti-console-"));
  chmodSync(data, 0o755); // the database may run as another user
  undo.push(() => rmSync(data, { recursive: true, force: true }));
  const size = screenshots ? ["--workers", "8", "--gpus", "8"] : ["--workers", "3", "--gpus", "4"];
  const up = spawn(join(bin, "tutti"), ["up", "--data", data, "--port", "0", ...size], { stdio: ["ignore", "pipe", "inherit"] });
  undo.push(() => new Promise((done) => {
    if (up.exitCode !== null) return done();
    const hard = setTimeout(() => up.kill("SIGKILL"), 20_000);
    up.on("exit", () => { clearTimeout(hard); done(); });
    up.kill("SIGTERM");
  }));
  const url = await new Promise((done, fail) => {
    let text = "";
    up.stdout.on("data", (piece) => {
      text += piece;
      const match = /tutti is up: (\S+)/.exec(text);
      if (match) done(match[1]);
    });
    up.on("exit", () => fail(new Error(`tutti up ended:\n${text}`)));
    setTimeout(() => fail(new Error("tutti up took more than 90 s")), 90_000).unref();
  }).catch(async (error) => { console.error(error.message); await leave(1); });
  const pages = makeServer({ upstream: url });
  env.CONSOLE_URL = await pages.listen();
  // A door for the test that pulls the cable.
  const { createServer } = await import("node:http");
  const door = createServer((request, response) => {
    if (request.url === "/cut") pages.cut();
    else pages.heal();
    response.end("ok");
  });
  await new Promise((done) => door.listen(0, "127.0.0.1", done));
  env.DOOR_URL = `http://127.0.0.1:${door.address().port}`;
  undo.push(() => door.close(), () => pages.close());
  Object.assign(env, { TUTTI_URL: url, TUTTI_DATA: data, TUTTI_BIN: bin, TUTTI_TOKEN: readFileSync(join(data, "token"), "utf8").trim() });
}
const child = spawn(process.execPath, [join(root, "node_modules", "@playwright", "test", "cli.js"), "test", "--config", join(root, "e2e", "playwright.config.ts"), `--project=${scale ? "scale" : screenshots ? "screenshots" : "stories"}`, ...rest], { cwd: root, env, stdio: "inherit" });
undo.push(() => { if (child.exitCode === null) spawnSync("kill", [String(child.pid)]); });
child.on("exit", (code) => void leave(code ?? 1));
