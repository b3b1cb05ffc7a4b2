// The documentation page in a real browser: a user registers, authorises and starts a session on it, with the unchanged
// examples. The page must load nothing from other servers, and must log no errors or warnings.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Locator } from "playwright-core";

const [server, shots] = process.argv.slice(2);
assert.ok(server, "usage: docs.js http://127.0.0.1:8080 [folder for screenshots]");

const profile = mkdtempSync(join(tmpdir(), "speedcoding-docs-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
  viewport: { width: 1280, height: 1000 },
});

const requests: string[] = [];
const complaints: string[] = [];
let steps = 0;
function step(name: string) {
  steps += 1;
  console.log(`  ok ${steps} ${name}`);
}

try {
  browser.on("request", (request) => requests.push(request.url()));
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  page.on("console", (message) => {
    // The browser itself logs each refused request. The steps below check the answers.
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  const shoot = async (name: string) => {
    if (shots) await page.screenshot({ path: join(shots, `${name}.png`) });
  };

  await page.goto(`${server}/docs`);
  await page.locator(".opblock").first().waitFor();
  await shoot("docs-1-page");
  step(`the page shows ${await page.locator(".opblock").count()} operations`);

  /** Opens an operation, changes its body if told to, executes it, and gives the answer's status and body. */
  async function execute(operation: string, change?: (body: string) => string): Promise<[number, string]> {
    const block: Locator = page.locator(`.opblock[id$="-${operation}"]`);
    await block.locator(".opblock-summary-control").click();
    await block.getByRole("button", { name: "Try it out" }).click();
    if (change) {
      const body = block.locator("textarea.body-param__text");
      await body.fill(change(await body.inputValue()));
    }
    await block.getByRole("button", { name: "Execute", exact: true }).click();
    const live = block.locator(".live-responses-table");
    await live.waitFor();
    const status = Number.parseInt(await live.locator(".response-col_status").last().innerText(), 10);
    const body = await live.locator(".highlight-code code").first().innerText();
    await live.scrollIntoViewIfNeeded();
    await shoot(`docs-${steps + 1}-${operation}`);
    await block.locator(".opblock-summary-control").click();
    return [status, body];
  }

  // The example with another name: two test runs on one server would use the same name.
  const name = `docs-${randomUUID().slice(0, 8)}`;
  const [registered, tokens] = await execute("register", (body) => {
    const credentials = JSON.parse(body) as { username: string };
    assert.ok(credentials.username, "the body is filled in with the example");
    return JSON.stringify({ ...credentials, username: name });
  });
  assert.equal(registered, 201, tokens);
  const { accessToken } = JSON.parse(tokens) as { accessToken: string };
  step("Try it out: register");

  const nobody = await browser.request.get(`${server}/api/v1/auth/me`);
  assert.equal(nobody.status(), 401);
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const dialogue = page.locator(".modal-ux");
  await dialogue.locator("input").fill(accessToken);
  await dialogue.getByRole("button", { name: "Apply credentials" }).click();
  await shoot("docs-2-authorize");
  await dialogue.getByRole("button", { name: "Close", exact: true }).click();
  step("Authorize with the access token");

  const [me, user] = await execute("get_me");
  assert.equal(me, 200, user);
  assert.equal((JSON.parse(user) as { username: string }).username, name);
  step("Try it out: who am I");

  const [started, session] = await execute("start_session");
  assert.equal(started, 201, session);
  assert.equal((JSON.parse(session) as { challenge: string }).challenge, "slack-clone");
  step("Try it out: start a session, with the example as it stands");

  const verify = page.locator('.opblock[id$="-verify_milestone"]');
  await verify.locator(".opblock-summary-control").click();
  const refusals = verify.locator('tr.response:is([data-code^="4"], [data-code^="5"])');
  await refusals.locator(".highlight-code").last().waitFor();
  for (const refusal of await refusals.all()) {
    const { status } = JSON.parse(await refusal.locator(".highlight-code code").innerText()) as { status: number };
    assert.equal(String(status), await refusal.getAttribute("data-code"));
  }
  await shoot("docs-6-refusals");
  step(`each of ${await refusals.count()} refusals shows an example of its own`);

  const elsewhere = requests.filter((url) => !url.startsWith(`${server}/`) && !url.startsWith("data:"));
  assert.deepEqual(elsewhere, [], "requests to elsewhere");
  step(`no request to elsewhere, of ${requests.length}`);
  assert.deepEqual(complaints, [], "complaints in the console");
  step("no complaint in the console: no violated policy, no error");
  console.log(`${steps} passed, 0 failed`);
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
