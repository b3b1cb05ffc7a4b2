// A generated client plays a whole run against the server whose address it is given, and provokes refusals. The
// compiler checks that the client sends and reads only what the document describes.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/openapi.js";

type Problem = components["schemas"]["Problem"];
type Session = components["schemas"]["Session"];

const server = process.argv[2];
assert.ok(server, "usage: run.js http://127.0.0.1:8080");
const anonymous = createClient<paths>({ baseUrl: `${server}/api/v1` });

let steps = 0;
function step(name: string) {
  steps += 1;
  console.log(`  ok ${steps} ${name}`);
}

/** Checks the parts that the problems of all operations have in common. */
function isProblem(problem: Problem, response: Response, status: number) {
  assert.equal(response.status, status);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  assert.equal(problem.status, status);
  assert.equal(problem.type, `urn:speedcoding:problem:${problem.code}`);
  assert.equal(problem.requestId, response.headers.get("x-request-id"));
  assert.ok(problem.title && problem.detail);
}

const credentials = { username: `ts-${randomUUID().slice(0, 8)}`, password: "analytical engine 1843" };

const registered = await anonymous.POST("/auth/register", { body: credentials });
assert.equal(registered.response.status, 201);
assert.equal(registered.data?.user.username, credentials.username);
assert.equal(registered.data.tokenType, "Bearer");
step("register");

const taken = await anonymous.POST("/auth/register", { body: credentials });
assert.ok(taken.error);
isProblem(taken.error, taken.response, 409);
assert.equal(taken.error.code, "username_taken");
type Refusal = NonNullable<(typeof taken)["error"]>["code"];
"username_taken" satisfies Refusal;
// @ts-expect-error: the document says that registering cannot be refused with this one.
"milestone_out_of_order" satisfies Refusal;
step("register again: 409 username_taken");

const login = await anonymous.POST("/auth/login", { body: credentials });
assert.equal(login.response.status, 200);
assert.ok(login.data);
assert.ok(login.data.expiresIn > 0);
step("log in");

const wrong = await anonymous.POST("/auth/login", { body: { ...credentials, password: "difference engine" } });
assert.ok(wrong.error);
isProblem(wrong.error, wrong.response, 401);
assert.equal(wrong.error.code, "wrong_credentials");
assert.equal(wrong.response.headers.get("www-authenticate"), "Bearer");
step("log in with a wrong password: 401 wrong_credentials");

const client = createClient<paths>({
  baseUrl: `${server}/api/v1`,
  headers: { authorization: `Bearer ${login.data.accessToken}` },
});

const me = await client.GET("/auth/me");
assert.deepEqual(me.data, login.data.user);
step("who am I");

const nobody = await anonymous.GET("/auth/me");
assert.ok(nobody.error);
isProblem(nobody.error, nobody.response, 401);
assert.equal(nobody.error.code, "missing_token");
step("who am I without a token: 401 missing_token");

const idle = await client.GET("/sessions/current");
assert.ok(idle.error);
isProblem(idle.error, idle.response, 404);
assert.equal(idle.error.code, "no_running_session");
step("no session is running: 404 no_running_session");

const started = await client.POST("/sessions/start", { body: { techStack: "TypeScript, Node", challenge: "slack-clone" } });
assert.equal(started.response.status, 201);
assert.ok(started.data);
const session: Session = started.data;
assert.equal(session.status, "running");
// A field that may be null is still present.
const unfinished: null[] = [session.endTime, session.totalTimeMs, session.totalTime, session.submission].map((value) => {
  assert.equal(value, null);
  return null;
});
assert.equal(unfinished.length, 4);
assert.deepEqual(session.milestones, []);
step("start slack-clone");

const second = await client.POST("/sessions/start", { body: { techStack: "TypeScript" } });
assert.ok(second.error);
isProblem(second.error, second.response, 409);
// Of the codes of this operation, only this one has a sessionId. The compiler knows that it is present.
assert.ok(second.error.code === "session_already_running");
const running: string = second.error.sessionId;
assert.equal(running, session.id);
step("start again: 409 session_already_running, with its sessionId");

const current = await client.GET("/sessions/current");
assert.equal(current.data?.id, session.id);
step("the running session");

const early = await client.POST("/milestones/verify", { body: { sessionId: session.id, milestoneNumber: 3 } });
assert.ok(early.error);
isProblem(early.error, early.response, 409);
assert.ok(early.error.code === "milestone_out_of_order");
step("verify out of order: 409 milestone_out_of_order");

const none = await client.POST("/milestones/verify", { body: { sessionId: session.id, milestoneNumber: 999 } });
assert.ok(none.error);
isProblem(none.error, none.response, 400);
assert.equal(none.error.code, "unknown_milestone");
assert.equal(none.error.errors?.[0]?.field, "milestoneNumber");
step("verify number 999: 400 unknown_milestone");

let split = -1;
for (const milestoneNumber of [1, 2, 3, 4, 5, 6, 7]) {
  const body = { sessionId: session.id, milestoneNumber };
  const verified = await client.POST("/milestones/verify", { body });
  assert.equal(verified.data?.passed, true);
  assert.equal(verified.data.milestoneNumber, milestoneNumber);
  assert.ok(verified.data.splitMs !== null && verified.data.splitMs >= split);
  split = verified.data.splitMs;
  const again = await client.POST("/milestones/verify", { body });
  assert.equal(again.data?.completedAt, verified.data.completedAt);
  step(`verify milestone ${milestoneNumber}, twice: one time`);
}

const misspelt = { sessionId: session.id, packages: [], video: "https://youtu.be/x" };
const unknown = await client.POST("/sessions/end", { body: misspelt });
assert.ok(unknown.error);
isProblem(unknown.error, unknown.response, 400);
assert.equal(unknown.error.code, "invalid_request");
assert.deepEqual(
  unknown.error.errors?.map(({ field, code }) => [field, code]),
  [["video", "unknown_field"]],
);
step("end with an unknown field: 400 invalid_request, which names it");

const payload = { sessionId: session.id, packages: ["openapi-fetch"], videoUrl: "https://www.youtube.com/watch?v=dQw4w9WgXcQ" };
const ended = await client.POST("/sessions/end", { body: payload });
assert.equal(ended.response.status, 200);
assert.ok(ended.data);
assert.equal(ended.data.status, "completed");
assert.equal(ended.data.milestones.length, 7);
assert.ok(ended.data.totalTimeMs !== null && ended.data.totalTimeMs >= split);
assert.equal(ended.data.submission?.status, "PENDING");
assert.deepEqual(ended.data.submission.packages, payload.packages);
assert.equal(ended.data.submission.reviewedAt, null);
step("end: completed, with a submission");

const replayed = await client.POST("/sessions/end", { body: payload });
assert.deepEqual({ ...replayed.data, serverTime: "" }, { ...ended.data, serverTime: "" });
step("end again: the same answer");

const changed = await client.POST("/sessions/end", { body: { ...payload, packages: [] } });
assert.ok(changed.error);
isProblem(changed.error, changed.response, 409);
assert.ok(changed.error.code === "session_already_ended" || changed.error.code === "session_expired");
assert.equal(changed.error.sessionId, session.id);
step("end with other data: 409 session_already_ended, with its sessionId");

const read = await client.GET("/sessions/{id}", { params: { path: { id: session.id } } });
assert.equal(read.data?.totalTime, ended.data.totalTime);
step("get the session");

const hidden = await anonymous.GET("/sessions/{id}", { params: { path: { id: session.id } } });
assert.ok(hidden.error);
isProblem(hidden.error, hidden.response, 404);
assert.equal(hidden.error.code, "session_not_found");
step("a stranger's session: 404 session_not_found");

const freestyle = await client.POST("/sessions/start", { body: { techStack: "Node" } });
assert.equal(freestyle.data?.challenge, "freestyle");
const given = await client.POST("/sessions/abandon", { body: { sessionId: freestyle.data.id } });
assert.equal(given.data?.status, "abandoned");
step("start freestyle, abandon it");

const seen: string[] = [];
for (let cursor: string | null | undefined; cursor !== null; ) {
  const query = cursor === undefined ? { limit: 1 } : { limit: 1, cursor };
  const page = await client.GET("/sessions", { params: { query } });
  assert.ok(page.data);
  seen.push(...page.data.items.map(({ id }) => id));
  cursor = page.data.nextCursor;
}
assert.deepEqual(seen, [freestyle.data.id, session.id]);
step("list sessions, a page each");

const tooMany = await client.GET("/sessions", { params: { query: { limit: 101 } } });
assert.ok(tooMany.error);
isProblem(tooMany.error, tooMany.response, 400);
assert.equal(tooMany.error.errors?.[0]?.field, "limit");
step("list 101 at once: 400, which names the parameter");

const challenges = await anonymous.GET("/challenges");
assert.ok(challenges.data?.items.some(({ slug, milestones }) => slug === "slack-clone" && milestones.length === 7));
const tag = challenges.response.headers.get("etag");
assert.ok(tag);
const kept = await anonymous.GET("/challenges", { params: { header: { "If-None-Match": tag } } });
assert.equal(kept.response.status, 304);
step("challenges: 200 with an ETag, then 304");

const unheard = await anonymous.GET("/challenges/{slug}", { params: { path: { slug: "no-such" } } });
assert.ok(unheard.error);
isProblem(unheard.error, unheard.response, 404);
assert.equal(unheard.error.code, "challenge_not_found");
step("an unknown challenge: 404 challenge_not_found");

console.log(`${steps} passed, 0 failed`);
