// axe on every page, light and dark, wide and narrow: nothing serious, nothing critical; and nothing wider than the screen.
import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "@playwright/test";
import { people, signIn, submit, until } from "./rig";

let job = 0;
test.beforeAll(async () => {
  await people();
  job = (await submit({ name: "for-axe-with-a-name-that-is-long-enough-to-be-cut-somewhere", project: "nlp", launcher: "direct", resources: { gpus: 1 }, run: "echo hi; exit 4" })).id;
  await submit({ name: "axe-waits", project: "nlp", nodes: 9, resources: { gpus: 4 }, run: "true" });
  await until(job, "failed");
});
const pages = () => ["", "queue", "queue?view=plan", "jobs", "jobs?group=project", "jobs?name=nothing-of-that-name", ...["logs", "explain", "metrics", "gang", "checkpoints", "evidence", "events", "spec"].map((tab) => `jobs/${job}?tab=${tab}`), "jobs/99999999", "nodes", "nodes/n1", "faults", "projects?project=nlp", "travel", "submit", ...["users", "tokens", "nodes", "audit", "policies", "health", "account"].map((tab) => `admin?tab=${tab}`), "nowhere"];

for (const [scheme, width] of [["light", 1440], ["dark", 1440], ["light", 360]] as const) test(`${scheme}, ${width} px`, async ({ page }) => {
  test.setTimeout(400_000);
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  await page.setViewportSize({ width, height: 900 });
  const found: string[] = [];
  const note = (text: string) => { found.push(text); console.log(text); };
  const check = async (name: string) => {
    const { violations } = await new AxeBuilder({ page }).analyze();
    for (const each of violations.filter(({ impact }) => impact === "serious" || impact === "critical")) note(`${name}: ${each.id} (${each.impact}): ${each.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) note(`${name}: ${wide} px wider than the screen`);
  };
  await page.goto("/console/login");
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await check("login");
  await signIn(page, "ada");
  for (const path of pages()) {
    await page.goto(`/console/${path}`);
    await expect(page.getByRole("main")).toBeVisible();
    await expect(page.getByRole("status", { name: "Loading" })).toHaveCount(0, { timeout: 8000 }).catch(() => note(`${path}: still loading`));
    await page.waitForTimeout(150);
    await check(path || "overview");
  }
  await page.goto("/console/queue");
  await page.getByRole("button", { name: /what if/ }).first().click();
  await expect(page.getByRole("dialog")).toBeVisible();
  await check("priority dialog");
  expect(found).toEqual([]);
});

test("3840 px: all is larger, rows lie where they are drawn, nothing is wider than the screen", async ({ page }) => {
  await page.setViewportSize({ width: 3840, height: 2160 });
  await signIn(page, "ada");
  for (const path of ["", "queue", "queue?view=plan", "jobs", `jobs/${job}?tab=logs`, "nodes", "faults", "projects", "submit", "admin"]) {
    await page.goto(`/console/${path}`);
    await expect(page.getByRole("status", { name: "Loading" })).toHaveCount(0);
    expect(await page.evaluate(() => [parseFloat(getComputedStyle(document.body).fontSize) > 18, document.documentElement.scrollWidth <= window.innerWidth]), path).toEqual([true, true]);
  }
  await page.goto("/console/jobs");
  // A row is as high as the list takes it to be, or scrolling would lead astray.
  await expect(page.locator("tbody tr[data-index]").first()).toBeVisible();
  const heights = await page.locator("tbody tr[data-index]").evaluateAll((rows) => rows.map((row) => row.getBoundingClientRect().height / (parseFloat(getComputedStyle(document.documentElement).fontSize) / 16)));
  expect(heights.length).toBeGreaterThan(0);
  for (const height of heights) expect(Math.abs(height - 36)).toBeLessThan(1.5);
});
