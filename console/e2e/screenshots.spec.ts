// npm run screenshots: every page, light and dark, of a cluster at work, into docs/images/console-*.png. No test of anything.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "@playwright/test";
import { breakGpu, call, people, signIn, submit, training } from "./rig";

const folder = fileURLToPath(new URL("../../docs/images/", import.meta.url));
test("screenshots", async ({ page }) => {
  await people();
  const dir = join(tmpdir(), `tutti-shots-${process.pid}`);
  const { mkdirSync, chmodSync } = await import("node:fs");
  mkdirSync(dir, { recursive: true });
  chmodSync(dir, 0o777);
  const main = await submit({ name: "llama-sft", project: "nlp", priority: 60, nodes: 3, resources: { gpus: 8 }, launcher: "direct", time_limit: "2h", checkpoint: { dir }, labels: { team: "speech" }, run: training(4000) }, "max");
  const owners = ["ada", "max", "olga"];
  for (let i = 0; i < 5; ++i) await submit({ name: `vit-lr-${[1, 3, 10, 30, 100][i]}e-5`, project: "vision", resources: { gpus: 4 }, launcher: "direct", time_limit: "1h", run: training(2000) }, owners[i % 3]);
  await submit({ name: "eval-mmlu", project: "nlp", resources: { gpus: 2 }, run: "echo 71.3" }, "max");
  await submit({ name: "tokenize", project: "nlp", resources: { gpus: 1 }, run: "echo reading; sleep 3; echo 'ValueError: bad shard 17' >&2; exit 1" }, "ada");
  await submit({ name: "pretrain-13b", project: "nlp", nodes: 4, resources: { gpus: 8 }, time_limit: "6h", run: "sleep 60" }, "max");
  await submit({ name: "ablation-no-warmup", project: "vision", nodes: 2, resources: { gpus: 8 }, time_limit: "3h", run: "sleep 60" }, "ada");
  await submit({ name: "nightly-eval", project: "nlp", begin_time: "+6h", resources: { gpus: 4 }, run: "true" }, "olga");
  await submit({ name: "world-model-70b", project: "vision", nodes: 16, resources: { gpus: 8 }, run: "true" }, "ada");
  await page.waitForTimeout(14_000);
  const { allocation } = await call<{ allocation: { node: string; gpus: number[] }[] }>("GET", `/v1/jobs/${main.id}`);
  if (allocation[1]) breakGpu(allocation[1].node, 3);
  await call("POST", "/v1/nodes/n8:drain", { reason: "new fans on Thursday" });
  await call("POST", "/v1/nodes/n7:inspect").catch(() => {});
  await page.waitForTimeout(20_000);
  const pages: [string, string, string?][] = [
    ["overview", ""], ["queue", "queue"], ["plan", "queue?view=plan"], ["jobs", "jobs"], ["job", `jobs/${main.id}?tab=logs`], ["job-explain", "jobs/pretrain-13b"], ["job-gang", `jobs/${main.id}?tab=gang`], ["job-metrics", `jobs/${main.id}?tab=metrics`],
    ["nodes", "nodes"], ["node", "nodes/n7"], ["faults", "faults"], ["projects", "projects?project=nlp"], ["travel", "travel"], ["submit", "submit"], ["admin", "admin"], ["audit", "admin?tab=audit"], ["health", "admin?tab=health"],
  ];
  for (const scheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await page.goto("/console/login");
    if (scheme === "light") await page.screenshot({ path: `${folder}console-login-light.png` });
    else await page.screenshot({ path: `${folder}console-login-dark.png` });
    await signIn(page, "ada");
    for (const [name, path] of pages) {
      await page.goto(`/console/${path}`);
      await page.waitForTimeout(name === "job-metrics" ? 12_000 : 1500);
      await page.screenshot({ path: `${folder}console-${name}-${scheme}.png` });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.goto("/console/queue");
  await page.getByRole("button", { name: /what if/ }).first().click();
  await page.getByLabel("Priority as a number").fill("85");
  await page.waitForTimeout(2000);
  await page.screenshot({ path: `${folder}console-what-if-light.png` });
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto("/console/");
  await page.waitForTimeout(1500);
  await page.screenshot({ path: `${folder}console-phone-light.png` });
});
