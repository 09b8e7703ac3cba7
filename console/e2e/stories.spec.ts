// The main story of each page, against a real scheduler, workers and database.
import { mkdtempSync, chmodSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { breakGpu, call, kPassword, listen, need, people, signIn, submit, training, until } from "./rig";

test.beforeAll(people);
let heard: string[] = [];
test.beforeEach(({ page }) => { heard = listen(page); });
test.afterEach(() => { expect(heard).toEqual([]); });

test("Login: a wrong password is refused, the right one leads to where one wanted to go", async ({ page }) => {
  await page.goto("/console/nodes?state=reachable");
  await expect(page).toHaveURL(/\/console\/login\?to=/);
  await page.getByLabel("Name").fill("ada");
  await page.getByLabel("Password").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("wrong");
  await page.getByLabel("Password").fill(kPassword);
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/console\/nodes\?state=reachable/);
  await page.getByRole("button", { name: /Signed in as ada/ }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/login/);
  expect((await page.request.get("/v1/me")).status()).toBe(401);
});

test("Login: with a token, which the page does not keep", async ({ page }) => {
  await page.goto("/console/login");
  await page.getByRole("button", { name: "With a token" }).click();
  await page.getByLabel("Token").fill("tutti_made-up");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("no such token");
  await page.getByLabel("Token").fill(need("TUTTI_TOKEN"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie)).not.toContain(need("TUTTI_TOKEN"));
});

test("Submit, watch, fault, retry, done", async ({ page }) => {
  test.setTimeout(240_000);
  const folder = mkdtempSync(join(tmpdir(), "tutti-console-"));
  chmodSync(folder, 0o777);
  await signIn(page, "ada", "submit");
  const editor = page.getByRole("textbox", { name: "Job as YAML" });
  await editor.fill("name: story\nnodes: [");
  await expect(page.getByText(/Line \d+:/)).toBeVisible();
  await editor.fill("name: story\nnodez: 2\nrun: 'true'\n");
  await expect(page.getByRole("alert")).toContainText("nodez");
  await editor.fill(`name: story\nresources:\n  gpus: 9\nrun: 'true'\n`);
  await expect(page.getByText("It could never run on this cluster.")).toBeVisible();
  await editor.fill(`name: story\nproject: nlp\nresources:\n  gpus: 9\nlauncher: direct\ncheckpoint:\n  dir: ${folder}\nrun: |${training(80).replaceAll("\n", "\n  ")}\n`);
  await page.getByLabel("GPUs of each node").fill("2"); // the form changes the text
  await expect(editor).toHaveValue(/gpus: 2/);
  await page.getByRole("textbox", { name: "Nodes", exact: true }).fill("2");
  await expect(page.getByText("It would start at once.")).toBeVisible();
  await page.getByRole("button", { name: "Submit job" }).click();
  await expect(page).toHaveURL(/\/console\/jobs\/\d+/);
  const id = Number(/jobs\/(\d+)/.exec(page.url())![1]);
  await expect(page.locator(".page-sub .state")).toHaveText("running");
  await page.getByRole("tab", { name: "Logs" }).click();
  await expect(page.getByRole("log")).toContainText(/step \d+ loss/);
  await page.getByLabel("Rank", { exact: true }).selectOption("1");
  await expect(page.getByRole("log")).toContainText("rank 1 begins");
  await expect(page).toHaveURL(/rank=1/);
  await page.getByRole("tab", { name: "Gang" }).click();
  await expect(page.getByText("2 nodes, 4 ranks, 4 GPUs.")).toBeVisible();
  await page.getByRole("tab", { name: "Checkpoints" }).click();
  await expect(page.locator(".tab-panel tbody tr").first()).toContainText("step-", { timeout: 40_000 });
  await page.getByRole("tab", { name: "Metrics" }).click();
  await expect(page.getByRole("img", { name: /^Loss: latest/ })).toBeVisible({ timeout: 40_000 });
  await expect(page.getByRole("img", { name: /^GPU use: latest/ })).toBeVisible({ timeout: 40_000 });

  const [first] = (await call<{ allocation: { node: string; gpus: number[] }[] }>("GET", `/v1/jobs/${id}`)).allocation;
  breakGpu(first!.node, first!.gpus[0]!);
  await expect(page.getByRole("group", { name: "Retry budgets" }).locator(".budget").filter({ hasText: /^gpu/ })).toContainText("1 / ", { timeout: 30_000 });
  await expect(page.getByText("attempt 2", { exact: true }).first()).toBeVisible({ timeout: 60_000 });
  await page.getByRole("tab", { name: "Evidence" }).click();
  await expect(page.getByRole("heading", { name: "Attempt 1" })).toBeVisible();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Evidence" }).last().click()]);
  expect(download.suggestedFilename()).toMatch(/\.tar\.gz$/);
  await expect(page.locator(".page-sub .state")).toHaveText("succeeded", { timeout: 90_000 });
  await page.getByRole("tab", { name: "Events" }).click();
  await expect(page.locator(".tab-panel")).toContainText("gpu");

  await page.goto("/console/faults");
  await expect(page.getByRole("heading", { name: "By class" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Faults", exact: true })).toContainText("Xid 79");
  await page.getByRole("button", { name: first!.node, exact: true }).click();
  await expect(page).toHaveURL(new RegExp(`node=${first!.node}`));
});

test("Job: the first rank that failed is pinned; the spec is compared and copied", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const spec = { name: "broken", project: "nlp", launcher: "direct", resources: { gpus: 2 }, run: "echo rank $RANK; sleep $RANK; if [ $RANK = 1 ]; then echo the loss is NaN >&2; exit 3; fi; sleep 60" };
  await until((await submit(spec)).id, "failed");
  const { id } = await submit({ ...spec, priority: 60 });
  await until(id, "failed");
  await signIn(page, "ada", `jobs/${id}`);
  await expect(page.getByText("Rank 1 failed first")).toBeVisible();
  await expect(page.locator(".pinned")).toContainText("the loss is NaN");
  await page.getByRole("searchbox", { name: "Search the log" }).fill("nan");
  await expect(page.getByRole("status").filter({ hasText: "1 of 1" })).toBeVisible();
  await page.getByRole("tab", { name: "Spec" }).click();
  await page.getByRole("button", { name: "Diff to the one before" }).click();
  await expect(page.locator("[data-op='+']")).toContainText("priority: 60");
  await page.getByRole("button", { name: "Copy as CLI" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toContain("tutti submit - <<'YAML'\n");
});

test("Overview: the map is walked by keyboard and leads to a job; it follows by itself", async ({ page }) => {
  await signIn(page, "ada");
  const used = page.locator(".stat", { hasText: "GPUs in use" }).locator(".stat-value");
  await expect(used).toHaveText(/\d+ \/ 12/);
  const before = Number((await used.textContent())!.split(" ")[0]);
  const { id } = await submit({ name: "busy", project: "vision", resources: { gpus: 2 }, run: "sleep 300" });
  await expect(used).toHaveText(`${before + 2} / 12`, { timeout: 10_000 }); // by the event stream: nobody reloads
  await expect(page.getByText("As it happens")).toBeVisible();
  const map = page.getByRole("application");
  await map.focus();
  await page.keyboard.press("Home");
  await expect(page.locator(".heat [aria-live]")).toContainText("GPU 0");
  const { node, gpus } = (await call<{ allocation: { node: string; gpus: number[] }[] }>("GET", `/v1/jobs/${id}`)).allocation[0]!;
  for (let n = 0; n < 30; ++n) {
    if ((await page.locator(".heat [aria-live]").textContent())!.startsWith(`${node} · GPU ${gpus[0]}`)) break;
    const here = (await page.locator(".heat [aria-live]").textContent())!;
    await page.keyboard.press(here.startsWith(`${node} `) ? (Number(/GPU (\d+)/.exec(here)![1]) < gpus[0]! ? "ArrowRight" : "ArrowLeft") : "ArrowDown");
  }
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(new RegExp(`/jobs/${id}$`));
  await call("POST", `/v1/jobs/${id}:cancel`, {});
});

test("Queue: every reason is there; a priority is tried before it is changed", async ({ page }) => {
  const filler = await submit({ name: "filler", project: "vision", nodes: 2, resources: { gpus: 4 }, time_limit: "1h", run: "sleep 600" });
  await until(filler.id, "running");
  const a = await submit({ name: "waits-a", project: "nlp", nodes: 2, resources: { gpus: 4 }, time_limit: "1h", run: "sleep 1" });
  const b = await submit({ name: "waits-b", project: "nlp", nodes: 2, resources: { gpus: 4 }, time_limit: "1h", run: "sleep 1" });
  const never = await submit({ name: "never", project: "nlp", nodes: 9, resources: { gpus: 4 }, run: "true" });
  await signIn(page, "ada", "queue");
  const row = (id: number) => page.getByRole("row").filter({ has: page.locator(`a[href$="/jobs/${id}"]`) });
  await expect(row(never.id)).toContainText("never");
  await expect(row(b.id).locator(".chip").first()).toBeVisible();
  const byReason = page.getByRole("group", { name: "By what keeps them most" }).getByRole("button", { name: /^never/ });
  await Promise.all([page.waitForRequest((request) => /\/v1\/queue\?.*reason=never/.test(request.url())), byReason.click()]);
  await expect(page).toHaveURL(/reason=never/);
  await expect(row(b.id)).toHaveCount(0);
  await expect(row(never.id)).toBeVisible();
  await byReason.click();
  await expect(page).not.toHaveURL(/reason=/);
  await row(b.id).getByRole("button", { name: /Priority 50/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Priority as a number").fill("80");
  await expect(dialog.getByText("Start then")).toBeVisible();
  expect((await call<{ priority: number }>("GET", `/v1/jobs/${b.id}`)).priority).toBe(50); // a preview changes nothing
  await dialog.getByRole("button", { name: "Apply priority 80" }).click();
  await expect(dialog).toBeHidden();
  await expect(row(b.id)).toContainText("80");
  expect((await call<{ priority: number }>("GET", `/v1/jobs/${b.id}`)).priority).toBe(80);
  await page.getByRole("button", { name: "Plan" }).click();
  await expect(page).toHaveURL(/view=plan/);
  await expect(page.getByRole("region", { name: "Plan" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Plan" }).getByRole("link", { name: new RegExp(`^running filler, job ${filler.id}`) }).first()).toBeVisible();
  await page.goto(`/console/jobs/${never.id}`);
  await expect(page.getByText("All reasons")).toBeVisible();
  for (const { id } of [filler, a, b, never]) await call("POST", `/v1/jobs/${id}:cancel`, {});
});

test("Jobs: filters stand in the address, views are kept, many are cancelled at once after a preview", async ({ page }) => {
  for (let i = 0; i < 4; ++i) await submit({ name: "bulk", project: "nlp", begin_time: "+1h", run: "true" });
  await signIn(page, "ada", "jobs");
  await page.getByLabel("Part of the name").fill("ulk");
  await expect(page).toHaveURL(/q=ulk/);
  await page.getByLabel("State", { exact: true }).selectOption("pending");
  await expect(page).toHaveURL(/state=pending/);
  await expect(page.getByText("4 loaded of 4")).toBeVisible();
  const submitted = page.getByLabel("Submitted", { exact: true });
  await submitted.selectOption("days"); // the last seven, with today
  await expect(page).toHaveURL(/since=.*until=/);
  await expect(page.getByLabel("Submitted from")).toHaveValue(/^\d{4}-\d{2}-\d{2}$/);
  await expect(page.getByText("4 loaded of 4")).toBeVisible();
  await submitted.selectOption("");
  await expect(page).not.toHaveURL(/since=|until=/);
  await page.getByRole("button", { name: "Views" }).click();
  await page.getByRole("menuitem", { name: /Save this view/ }).click();
  await page.getByLabel("Name", { exact: false }).last().fill("Sweeps");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.goto("/console/jobs");
  await page.getByRole("button", { name: "Views" }).click();
  await page.getByRole("menuitem", { name: "Sweeps" }).click();
  await expect(page).toHaveURL(/q=ulk&state=pending|state=pending&q=ulk/);
  await page.getByRole("checkbox", { name: "Select all rows" }).check();
  await page.getByRole("region", { name: "Selected jobs" }).getByRole("button", { name: "Cancel" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("4 would change")).toBeVisible();
  expect((await call<{ jobs: unknown[] }>("GET", "/v1/jobs?name=bulk&state=pending")).jobs.length).toBe(4);
  await dialog.getByRole("button", { name: "Cancel 4 jobs" }).click();
  await expect(dialog.getByText("4 changed")).toBeVisible();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await expect(page.getByText("No job matches")).toBeVisible();
  await page.goto("/console/jobs?group=state");
  await expect(page.getByRole("cell", { name: "cancelled" })).toBeVisible();
});

test("Nodes: drained with a reason, which is asked for, and resumed", async ({ page }) => {
  await signIn(page, "olga", "nodes/n3");
  await page.getByRole("button", { name: /^(Drain|Resume)$/ }).click();
  const dialog = page.getByRole("dialog");
  const act = dialog.getByRole("button", { name: /(Drain|Resume) node/ });
  await expect(act).toBeDisabled();
  await dialog.getByLabel("Reason").fill("new fans");
  await act.click();
  await expect(page.locator(".page-sub")).toContainText(/draining|cordoned/);
  await expect(page.locator(".page-sub")).toContainText("new fans");
  await page.goto("/console/nodes");
  await expect(page.getByRole("row", { name: /n3/ })).toContainText("new fans");
  await page.goto("/console/nodes/n3");
  await page.getByRole("button", { name: "Resume" }).click();
  await dialog.getByLabel("Reason").fill("fans are in");
  await dialog.getByRole("button", { name: "Resume node" }).click();
  await expect(page.locator(".page-sub")).toContainText("schedulable");
  await page.getByRole("button", { name: "Inspect now" }).click();
  await expect(page.getByRole("region", { name: "Checks" })).toBeVisible({ timeout: 60_000 });
});

test("Projects: shares and usage, and the same as CSV", async ({ page }) => {
  await signIn(page, "ada", "projects?project=nlp");
  await expect(page.getByRole("heading", { name: "nlp" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Usage by day" })).toBeVisible();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Usage as CSV" }).click()]);
  const csv = await (await import("node:fs/promises")).readFile(await download.path(), "utf8");
  expect(csv.split("\n")[0]).toContain("project");
});

test("Time travel: the slider goes back", async ({ page }) => {
  await signIn(page, "ada", "travel");
  const slider = page.getByRole("slider");
  await expect(slider).toBeVisible();
  const [from, until_] = [Number(await slider.getAttribute("min")), Number(await slider.getAttribute("max"))];
  await slider.fill(String(Math.floor((from + until_) / 2 / 1000) * 1000 + (from % 1000)));
  await expect(page).toHaveURL(/at=/);
  await expect(page.getByRole("heading", { name: "GPUs, then" })).toBeVisible();
  await expect(page.getByRole("application")).toBeVisible();
  await expect(page.getByRole("heading", { name: /^Queue, then/ })).toBeVisible();
});

test("Admin: a user is made and removed, a token shown once, the audit trail tells, a policy is tried on what has run", async ({ page }) => {
  await signIn(page, "ada", "admin");
  await page.getByRole("button", { name: "New user" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("newt");
  await dialog.getByLabel("Password").fill(kPassword);
  await dialog.getByRole("button", { name: "Add a role" }).click();
  await dialog.getByLabel("Project of role 1").fill("nlp");
  await dialog.getByRole("button", { name: "Make user" }).click();
  const row = page.getByRole("row", { name: /newt/ });
  await expect(row).toContainText("member in nlp");
  await row.getByRole("button", { name: "Remove" }).click();
  await dialog.getByRole("button", { name: "Remove user" }).click();
  await expect(row).toBeHidden();
  await page.getByRole("tab", { name: "Your account" }).click();
  await page.getByRole("button", { name: "New token" }).click();
  await dialog.getByLabel("What it is for").fill("laptop");
  await dialog.getByRole("button", { name: "Make token" }).click();
  await expect(dialog.locator("pre")).toHaveText(/^tutti_/);
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.getByRole("tab", { name: "Audit" }).click();
  await expect(page.getByRole("region", { name: "Audit trail" })).toContainText("users.delete");
  const { id } = await submit({ name: "replayed", project: "nlp", launcher: "direct", resources: { gpus: 1 }, run: "true" });
  await until(id, "succeeded");
  await page.getByRole("tab", { name: "Policies" }).click();
  const dry = page.locator("section.panel", { hasText: "Dry run of a policy" });
  await dry.getByLabel("Jobs of", { exact: true }).selectOption("24h");
  await dry.getByLabel("Against").selectOption("fair");
  await dry.getByRole("checkbox", { name: "fifo" }).check();
  await dry.getByRole("button", { name: "Replay" }).click();
  const compared = dry.getByRole("region", { name: "Policies compared" });
  await expect(compared).toBeVisible({ timeout: 20_000 });
  await expect(compared.getByRole("row")).toHaveCount(4); // its head, fair, easy, fifo
  await expect(compared.getByRole("row").nth(1)).toContainText("fair compared with");
  await page.getByRole("tab", { name: "Control plane" }).click();
  await expect(page.getByText("Who leads", { exact: true })).toBeVisible();
  await expect(page.locator(".facts .chip")).toHaveText("leads");
});

test("A viewer cannot act: nothing is offered, and the server would refuse", async ({ page }) => {
  const { id } = await submit({ name: "not-hers", project: "nlp", begin_time: "+1h", run: "true" });
  await signIn(page, "vera", `jobs/${id}`);
  await expect(page.getByRole("heading", { name: "not-hers" })).toBeVisible();
  for (const name of ["Cancel job", "Change", "Submit again"]) await expect(page.getByRole("button", { name }).or(page.getByRole("link", { name }))).toHaveCount(0);
  await expect(page.getByRole("link", { name: "Submit", exact: true })).toHaveCount(0);
  await page.goto("/console/jobs");
  await expect(page.getByRole("checkbox")).toHaveCount(0);
  await page.goto("/console/nodes/n1");
  await expect(page.getByRole("heading", { name: "n1" })).toBeVisible();
  for (const name of ["Drain", "Resume", "Inspect now"]) await expect(page.getByRole("button", { name })).toHaveCount(0);
  await page.goto("/console/submit");
  await expect(page.getByText("You may not submit jobs")).toBeVisible();
  await page.goto("/console/admin");
  await expect(page.getByRole("tab", { name: "Users" })).toHaveCount(0);
  await page.getByRole("tab", { name: "Policies" }).click();
  await expect(page.getByText("You may not replay the past")).toBeVisible();
  await expect(page.getByRole("button", { name: "Replay" })).toHaveCount(0);
  expect((await page.request.post(`/v1/jobs/${id}:cancel`, { data: {}, headers: { "Sec-Fetch-Site": "same-origin", Origin: need("CONSOLE_URL") } })).status()).toBe(403);
  await call("POST", `/v1/jobs/${id}:cancel`, {});
});

test("A lost connection is shown, and heals without losing anything", async ({ page }) => {
  await signIn(page, "ada", "jobs?name=during");
  await expect(page.getByText("Live", { exact: true })).toBeVisible();
  await fetch(need("DOOR_URL") + "/cut");
  await expect(page.getByText("The connection to the scheduler is lost.")).toBeVisible();
  const { id } = await submit({ name: "during", project: "nlp", begin_time: "+1h", run: "true" });
  await fetch(need("DOOR_URL") + "/heal");
  await page.getByRole("button", { name: "Try now" }).click({ timeout: 5000 }).catch(() => {});
  await expect(page.getByText("The connection to the scheduler is lost.")).toBeHidden({ timeout: 30_000 });
  await expect(page.getByRole("row").filter({ hasText: "during" })).toBeVisible();
  await call("POST", `/v1/jobs/${id}:cancel`, {});
});

test("Keyboard: skip link, jump, shortcuts; the theme stays", async ({ page }) => {
  await signIn(page, "ada");
  await page.reload();
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("main")).toBeFocused();
  await page.keyboard.press("g");
  await page.keyboard.press("n");
  await expect(page).toHaveURL(/\/nodes$/);
  await page.keyboard.press("/");
  await page.keyboard.type("n2");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/nodes\/n2$/);
  await page.getByRole("button", { name: /^Theme/ }).click();
  await page.getByRole("menuitem", { name: "Dark" }).click();
  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
});
