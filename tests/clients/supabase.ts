// The unchanged supabase-js against the service. It reads the rows that its user may see, and every other request is
// refused. The compiler checks it against the project's own types (supabase/types.ts).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import createApi from "openapi-fetch";
import type { Database } from "./generated/database.js";
import type { paths } from "./generated/openapi.js";

const server = process.argv[2];
assert.ok(server && process.env.DATABASE_URL, "usage: DATABASE_URL=… supabase.js http://127.0.0.1:8080");

let steps = 0;
function step(name: string) {
  steps += 1;
  console.log(`  ok ${steps} ${name}`);
}

/** Runs a statement as an administrator does in the dashboard. */
function dashboard(statement: string) {
  execFileSync("psql", ["-XqAt", "-v", "ON_ERROR_STOP=1", process.env.DATABASE_URL!, "-c", statement]);
}

/** The key that all clients have. */
const key = "anon";
const options = { auth: { persistSession: false, autoRefreshToken: false } };
const visitor = createClient<Database>(server, key, options);

async function signUp(name: string) {
  const api = createApi<paths>({ baseUrl: `${server}/api/v1` });
  const body = { username: `${name}-${randomUUID().slice(0, 8)}`, password: "analytical engine 1843" };
  const { data } = await api.POST("/auth/register", { body });
  assert.ok(data);
  const { user, accessToken, refreshToken } = data;
  api.use({
    onRequest({ request }) {
      request.headers.set("authorization", `Bearer ${accessToken}`);
    },
  });
  const reader = createClient<Database>(server!, key, { accessToken: async () => accessToken });
  return { user, api, reader, accessToken, refreshToken };
}

type Runner = Awaited<ReturnType<typeof signUp>>;

/** A run of slack-clone from start to end. */
async function run({ api }: Runner, techStack: string) {
  const started = await api.POST("/sessions/start", { body: { techStack, challenge: "slack-clone" } });
  assert.ok(started.data);
  const sessionId = started.data.id;
  for (const milestoneNumber of [1, 2, 3, 4, 5, 6, 7]) {
    const verified = await api.POST("/milestones/verify", { body: { sessionId, milestoneNumber } });
    assert.equal(verified.data?.passed, true);
  }
  const videoUrl = "https://youtu.be/dQw4w9WgXcQ";
  const ended = await api.POST("/sessions/end", { body: { sessionId, packages: ["supabase-js"], videoUrl } });
  assert.equal(ended.data?.status, "completed");
  return sessionId;
}

/** The rows of an answer that must have some. */
function rows<T>(answer: { data: T; error: unknown }): NonNullable<T> {
  assert.equal(answer.error, null);
  assert.ok(answer.data);
  return answer.data;
}

/** An answer that must be a refusal with one of these codes, and a sentence. */
function refused(answer: { data: unknown; error: { code: string; message: string } | null }, ...codes: string[]) {
  assert.ok(answer.error && codes.includes(answer.error.code), `${answer.error?.code} is none of ${codes}`);
  assert.ok(answer.error.message.length > 10, answer.error.message);
  assert.equal(answer.data, null);
}

const alice = await signUp("alice");
const bob = await signUp("bob");
const first = await run(alice, "TypeScript, Postgres");
const second = await run(alice, "Rust");
const running = await bob.api.POST("/sessions/start", { body: { techStack: "Zig" } });
assert.ok(running.data);
step("two people sign up through the API; one completes two runs, the other has one running");

// --- the rows that she sees -------------------------------------------------------------------------------

const whole = rows(
  await alice.reader
    .from("sessions")
    .select("id, status, tech_stack, total_ms, challenge:challenges(slug), milestones(milestone_number, passed), submission:submissions(status, packages)")
    .eq("id", first)
    .single(),
);
assert.equal(whole.status, "completed");
assert.equal(whole.challenge.slug, "slack-clone");
assert.ok(whole.total_ms !== null && whole.total_ms >= 0);
assert.deepEqual(whole.milestones.map(({ milestone_number }) => milestone_number).sort(), [1, 2, 3, 4, 5, 6, 7]);
assert.ok(whole.milestones.every(({ passed }) => passed));
assert.deepEqual(whole.submission, { status: "PENDING", packages: ["supabase-js"] });
// @ts-expect-error: there is no such column.
whole.colour;
step("her own session, with its challenge, milestones and submission in it");

// She sees her own sessions and the published ones.
const hers = (head = false) =>
  alice.reader.from("sessions").select("id, tech_stack", { count: "exact", head }).eq("user_id", alice.user.id);
const all = await hers().order("start_time", { ascending: false });
assert.deepEqual(rows(all).map(({ id }) => id), [second, first]);
assert.equal(all.count, 2);
const counted = await hers(true);
assert.deepEqual([counted.error, counted.data, counted.count], [null, null, 2]);
const page = await hers().order("start_time").range(1, 1);
assert.deepEqual([rows(page).map(({ id }) => id), page.count], [[second], 2]);
step("order, exact count with and without rows, range");

const found = await alice.reader
  .from("sessions")
  .select("id")
  .in("id", [first, second, running.data.id])
  .or("tech_stack.ilike.%rust%,tech_stack.eq.Zig")
  .not("end_time", "is", null);
assert.deepEqual(rows(found), [{ id: second }]);
const passed = await alice.reader
  .from("milestones")
  .select("milestone_number, session:sessions!inner(tech_stack)")
  .eq("sessions.tech_stack", "Rust")
  .eq("user_id", alice.user.id)
  .gte("milestone_number", 6)
  .order("milestone_number")
  .limit(5);
assert.deepEqual(rows(passed), [6, 7].map((milestone_number) => ({ milestone_number, session: { tech_stack: "Rust" } })));
step("filters: in, or, ilike, not, gte, through an embedded table; limit");

const csv = rows(await hers().order("tech_stack").csv());
assert.equal(csv.trim(), `id,tech_stack\n${second},Rust\n${first},"TypeScript, Postgres"`);
const live = rows(await bob.reader.from("live_sessions").select("id, status, total_ms").eq("user_id", bob.user.id).single());
assert.deepEqual(live, { id: running.data.id, status: "running", total_ms: null });
step("CSV; the view of sessions as they are now");

const nothing = await alice.reader.from("sessions").select("id").eq("id", running.data.id).maybeSingle();
assert.deepEqual([nothing.error, nothing.data], [null, null]);
refused(await alice.reader.from("sessions").select("id").eq("id", running.data.id).single(), "PGRST116");
step("another's session is not there: maybeSingle null, single PGRST116");

// --- the rows that everybody sees -------------------------------------------------------------------------

const people = { alice, bob };
for (const reader of [visitor, bob.reader]) {
  const challenge = reader.from("challenges").select("title, milestones:challenge_milestones(number)").eq("slug", "slack-clone");
  const { title, milestones } = rows(await challenge.single());
  assert.deepEqual([title, milestones.length], ["Slack clone", 7]);
  const users = rows(await reader.from("users").select("username, role").in("id", [alice.user.id, bob.user.id]).order("username"));
  assert.deepEqual(users, [people.alice, people.bob].map(({ user }) => ({ username: user.username, role: "runner" })));
  const hers = await reader.from("sessions").select("id", { count: "exact" }).eq("user_id", alice.user.id);
  assert.deepEqual([rows(hers), hers.count], [[], 0]);
}
step("everybody sees challenges and names, and nobody else's runs");

dashboard(`update public.submissions set status = 'APPROVED' where session_id = '${first}'`);
for (const reader of [visitor, bob.reader]) {
  const published = await reader
    .from("sessions")
    .select("id, total_time, user:users(username), submission:submissions(video_url), milestones(milestone_number)", { count: "exact" })
    .eq("user_id", alice.user.id);
  const [run, ...others] = rows(published);
  assert.deepEqual([run?.id, others.length, published.count], [first, 0, 1]);
  assert.equal(run?.user.username, alice.user.username);
  assert.equal(run.milestones.length, 7);
  assert.deepEqual(run.submission, { video_url: "https://youtu.be/dQw4w9WgXcQ" });
}
step("once a run is approved everybody sees it, with its runner");

const carol = await signUp("carol");
dashboard(`update public.submissions set status = 'APPROVED' where session_id = '${await run(carol, "Rust")}'`);
dashboard(`update public.submissions set status = 'APPROVED' where session_id = '${second}'`);
const challenge = rows(await visitor.from("challenges").select("id").eq("slug", "slack-clone").single());
for (const reader of [visitor, bob.reader]) {
  const board = (tech_stack_key: string) =>
    reader
      .from("board_entries")
      .select("username, total_ms, tech_stack, packages, session:sessions(milestones(milestone_number))", { count: "exact" })
      .match({ challenge_id: challenge.id, tech_stack_key })
      .in("user_id", [alice.user.id, carol.user.id])
      .order("total_ms")
      .order("end_time")
      .order("submission_id");
  const all = await board("");
  const names = rows(all).map(({ username }) => username);
  assert.deepEqual([[...names].sort(), all.count], [[alice.user.username, carol.user.username], 2]);
  const times = rows(all).map(({ total_ms }) => total_ms ?? NaN);
  assert.deepEqual(times, [...times].sort((a, b) => a - b));
  assert.deepEqual(all.data?.[0]?.packages, ["supabase-js"]);
  assert.equal(all.data?.[0]?.session?.milestones.length, 7);
  const last = await board("").range(1, 1);
  assert.deepEqual([rows(last).map(({ username }) => username), last.count], [names.slice(1), 2]);
  assert.equal((await board("rust")).count, 2);
  const own = rows(await board("postgresql,typescript").single());
  assert.deepEqual([own.username, own.tech_stack], [alice.user.username, "TypeScript, Postgres"]);
}
step("boards with their runners, of all runs and of one stack: filters, order, range, count, single");

// --- requests that nobody may make ------------------------------------------------------------------------

type Table = keyof Database["public"]["Tables"];
const readers: [string, SupabaseClient<Database>][] = [["a visitor", visitor], ["a runner", alice.reader]];
for (const [who, reader] of readers) {
  // The types would allow these writes. The grants do not.
  const loose = reader as unknown as SupabaseClient;
  for (const table of ["users", "bans", "challenges", "challenge_milestones", "sessions", "milestones", "submissions", "personal_bests"] satisfies Table[]) {
    const column = ({ challenge_milestones: "challenge_id", personal_bests: "challenge_id", bans: "user_id" } as Record<string, string>)[table] ?? "id";
    const row = { [column]: randomUUID() };
    refused(await loose.from(table).insert(row), "42501");
    refused(await loose.from(table).upsert(row), "42501");
    refused(await loose.from(table).update(row).eq(column, alice.user.id), "42501");
    refused(await loose.from(table).delete().eq(column, alice.user.id), "42501");
  }
  refused(await reader.from("sessions").update({ end_time: new Date().toISOString() }).eq("id", first), "42501");
  step(`${who} can neither insert, upsert, update nor delete`);

  for (const name of ["start_session", "end_session", "admit", "enter", "clock", "caller_role", "check_request"]) {
    refused(await loose.rpc(name, { caller: {} }), "PGRST202");
  }
  for (const schema of ["private", "speedcoding", "auth", "pg_catalog"]) {
    refused(await loose.schema(schema).from("credentials").select(), "PGRST106");
    refused(await loose.schema(schema).rpc("check_request"), "PGRST106");
  }
  for (const table of ["credentials", "refresh_tokens", "audit_log", "private.credentials", "pg_user"]) {
    // Before version 13 PostgREST asks the database for an unknown table. From then on it refuses by itself.
    refused(await loose.from(table).select(), "PGRST205", "42P01");
  }
  refused(await loose.from("bans").select(), "42501");
  const people = rows(await loose.from("users").select());
  assert.ok(people.length > 0 && people.every((user) => !Object.keys(user).some((column) => column.includes("ban"))));
  step(`${who} can call no function, and read nothing in another schema`);
}

const forged = createClient<Database>(server, key, { accessToken: async () => `${bob.accessToken}x` });
refused(await forged.from("users").select(), "invalid_token");
const other = createClient<Database>(server, "another key", options);
refused(await other.from("users").select(), "invalid_token");
dashboard(`insert into public.bans (user_id) values ('${bob.user.id}')`);
refused(await bob.reader.from("users").select(), "account_banned");
dashboard(`delete from public.bans where user_id = '${bob.user.id}'`);
assert.equal((await bob.reader.from("users").select()).error, null);
dashboard(`delete from public.users where id = '${bob.user.id}'`);
refused(await bob.reader.from("users").select(), "sign_in_ended");
step("a forged token, another key, a banned user, a deleted one: refused here, in words that supabase-js shows");

console.log(`${steps} passed, 0 failed`);
