// What is made by a command is what the command would make now.
import { readFileSync, existsSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";
import { expect, it } from "vitest";

it("src/api/schema.d.ts is that of ../api/handlers/openapi.json; npm run types makes it anew", async () => {
  const nodes = await openapiTS(new URL("../../api/handlers/openapi.json", import.meta.url), { defaultNonNullable: false });
  const made = astToString(nodes);
  const stored = readFileSync("src/api/schema.d.ts", "utf8");
  const body = (text: string) => text.replace(/^\/\*\*[\s\S]*?\*\/\s*/, "").trim();
  expect(body(stored) === body(made)).toBe(true);
}, 60_000);
it("the lock file names no registry", () => expect(readFileSync("package-lock.json", "utf8")).not.toMatch(/"resolved"|https?:\/\/registry/));
it("index.html has no script or style in it", () => {
  const page = readFileSync("index.html", "utf8");
  expect(page).not.toMatch(/<style|style=|<script(?![^>]*src=)/);
});
it.runIf(existsSync("LICENSES.txt"))("LICENSES.txt names every package that is bundled", () => {
  const text = readFileSync("LICENSES.txt", "utf8");
  const wanted = Object.keys((JSON.parse(readFileSync("package.json", "utf8")) as { dependencies: Record<string, string> }).dependencies);
  expect(wanted.filter((name) => !text.includes(name + " "))).toEqual([]);
});
